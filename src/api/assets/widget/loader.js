// The website's side of the widget: a button, and a frame with the chat. One script tag:
//   <script src="https://SERVER/widget.js" data-operator="igor" data-language="en" data-color="#0f766e" data-position="left" async></script>
// It touches nothing of the page but one element of its own, and tells the frame nothing about the page.
(() => {
  const script = document.currentScript ?? document.querySelector('script[src$="/widget.js"]');
  if (!script || window.firstlineWidget) return;
  const server = new URL(script.src).origin;
  const { operator = "", language = "", color = "", position = "right" } = script.dataset;
  const lang = (language || document.documentElement.lang || navigator.language || "en").startsWith("ru") ? "ru" : "en";
  const words = lang === "ru" ? { open: "Открыть чат поддержки", close: "Закрыть чат поддержки", title: "Чат поддержки" }
    : { open: "Open support chat", close: "Close support chat", title: "Support chat" };
  const brand = /^#[0-9a-f]{6}$/i.test(color) ? color : "#0f766e";
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(brand.slice(at, at + 2), 16));
  const ink = 0.299 * r + 0.587 * g + 0.114 * b > 150 ? "#10201d" : "#ffffff";

  const STYLE = `
    :host { all: initial; }
    .root { position: fixed; z-index: 2147483000; bottom: 20px; inset-inline-end: 20px; }
    .root.left { inset-inline-end: auto; inset-inline-start: 20px; }
    button { all: unset; box-sizing: border-box; width: 58px; height: 58px; border-radius: 50%; cursor: pointer; display: grid; place-items: center;
      background: var(--brand); color: var(--brand-ink); box-shadow: 0 6px 22px rgb(0 0 0 / .28); transition: transform .15s ease; position: relative; }
    button:hover { transform: scale(1.05); }
    button:focus-visible { outline: 3px solid var(--brand); outline-offset: 3px; }
    svg { width: 26px; height: 26px; fill: none; stroke: currentColor; stroke-width: 1.9; stroke-linecap: round; stroke-linejoin: round; }
    .open .bubble, .cross { display: none; } .open .cross { display: block; }
    .unread { position: absolute; top: -3px; inset-inline-end: -3px; min-width: 20px; height: 20px; border-radius: 10px; background: #dc2626; color: #fff;
      font: 600 12px/20px system-ui, sans-serif; text-align: center; padding: 0 5px; box-sizing: border-box; }
    .unread[hidden] { display: none; }
    iframe { position: absolute; bottom: 74px; inset-inline-end: 0; width: 392px; height: min(660px, calc(100vh - 116px)); border: 0; border-radius: 18px;
      background: transparent; box-shadow: 0 18px 60px rgb(0 0 0 / .28); color-scheme: light dark; animation: rise .18s ease-out; }
    .left iframe { inset-inline-end: auto; inset-inline-start: 0; }
    iframe[hidden] { display: none; }
    @keyframes rise { from { opacity: 0; transform: translateY(12px); } }
    @media (max-width: 480px) {
      .open iframe { position: fixed; inset: 0; width: 100%; height: 100%; border-radius: 0; }
      .open button { display: none; }
    }
    @media (prefers-reduced-motion: reduce) { iframe { animation: none; } button { transition: none; } button:hover { transform: none; } }`;

  const make = (name, attributes = {}, ...children) => {
    const svg = ["svg", "path"].includes(name);
    const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  };
  const host = make("div", { id: "firstline-widget" });
  const shadow = host.attachShadow({ mode: "closed" });
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(STYLE);
  shadow.adoptedStyleSheets = [sheet];
  const unread = make("span", { class: "unread", hidden: "" });
  const button = make("button", { type: "button", "aria-label": words.open, "aria-expanded": "false", "aria-haspopup": "dialog", tabindex: "0" },
    make("svg", { viewBox: "0 0 24 24", class: "bubble", "aria-hidden": "true" }, make("path", { d: "M4 5h16v11H10l-6 4z" })),
    make("svg", { viewBox: "0 0 24 24", class: "cross", "aria-hidden": "true" }, make("path", { d: "M6 6l12 12M18 6 6 18" })), unread);
  const root = make("div", { class: position === "left" ? "root left" : "root" }, button);
  root.style.setProperty("--brand", brand);
  root.style.setProperty("--brand-ink", ink);
  shadow.append(root);

  let frame = null;
  const remember = (yes) => { try { yes ? sessionStorage.setItem("firstline", "1") : sessionStorage.removeItem("firstline"); } catch { /* no storage, no memory */ } };
  const remembered = () => { try { return sessionStorage.getItem("firstline") === "1"; } catch { return false; } };

  function load() {
    if (frame) return;
    const query = new URLSearchParams({ language: lang, color: brand });
    if (operator) query.set("operator", operator);
    frame = make("iframe", { src: `${server}/widget/frame?${query}`, title: words.title, allow: `clipboard-write ${server}`, hidden: "" });
    root.prepend(frame);
  }
  function tell(message) {
    frame?.contentWindow?.postMessage({ firstline: message }, server);
  }
  function show(open) {
    load();
    frame.hidden = !open;
    root.classList.toggle("open", open);
    button.setAttribute("aria-expanded", String(open));
    button.setAttribute("aria-label", open ? words.close : words.open);
    if (open) { unread.hidden = true; frame.focus(); } else button.focus({ preventScroll: true });
    tell(open ? "opened" : "closed");
  }
  button.addEventListener("click", () => show(!root.classList.contains("open")));
  window.addEventListener("message", (event) => {
    if (!frame || event.source !== frame.contentWindow || event.origin !== server) return;
    const { firstline, count } = event.data ?? {};
    if (firstline === "close") show(false);
    if (firstline === "ready" && root.classList.contains("open")) tell("opened");
    if (firstline === "talking") remember(true);
    if (firstline === "unread" && !root.classList.contains("open")) {
      unread.textContent = String(Math.min(99, Number(count) || 0));
      unread.hidden = !count;
    }
  });

  const begin = () => {
    document.body.append(host);
    // Someone who was talking on the last page hears a reply on this one too.
    if (remembered()) load();
  };
  window.firstlineWidget = { open: () => show(true), close: () => show(false) };
  if (document.body) begin();
  else document.addEventListener("DOMContentLoaded", begin);
})();
