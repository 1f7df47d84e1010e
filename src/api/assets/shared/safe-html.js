// HTML that the server has rendered and cleaned, cleaned once more: only known elements and attributes are built anew.
import { copyButton, el } from "./dom.js";

const PLAIN = new Set(["p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "strong", "b", "em", "i",
  "del", "s", "code", "blockquote", "table", "thead", "tbody", "tr", "th", "td", "div", "span", "section", "sup", "sub",
  "kbd", "dl", "dt", "dd", "figure", "figcaption"]);
/** These go with all they hold. */
const DROPPED = new Set(["script", "style", "iframe", "object", "embed", "template", "noscript", "svg", "math", "form",
  "input", "button", "textarea", "select", "link", "meta", "base", "title"]);

function url(value, protocols) {
  try {
    const parsed = new URL(value, location.href);
    return protocols.includes(parsed.protocol) ? parsed.href : null;
  } catch {
    return null;
  }
}

function copyOf(node, words) {
  if (node.nodeType === Node.TEXT_NODE) return document.createTextNode(node.data);
  if (node.nodeType !== Node.ELEMENT_NODE) return null;
  const name = node.localName;
  if (DROPPED.has(name)) return null;
  const inside = () => [...node.childNodes].map((child) => copyOf(child, words)).filter(Boolean);
  if (name === "pre") {
    const code = node.textContent.replace(/\n$/, "");
    const language = /language-([\w+#-]+)/.exec(node.querySelector("code")?.className ?? "")?.[1] ?? "";
    return el("div", { class: "code" }, el("div", { class: "code-head" }, el("span", {}, language), copyButton(() => code, words)),
      el("pre", { tabindex: "0" }, el("code", {}, code)));
  }
  if (name === "a") {
    const href = url(node.getAttribute("href") ?? "", ["http:", "https:", "mailto:", "tel:"]);
    return href ? el("a", { href, target: "_blank", rel: "noopener noreferrer" }, inside()) : el("span", {}, inside());
  }
  if (name === "img") {
    const src = url(node.getAttribute("src") ?? "", ["http:", "https:"]);
    if (!src) return null;
    const alt = node.getAttribute("alt") ?? "";
    const shown = el("img", { src, alt, loading: "lazy" });
    shown.addEventListener("error", () => shown.replaceWith(document.createTextNode(alt)));
    return shown;
  }
  if (!PLAIN.has(name)) return inside();
  const kept = {};
  if (name === "ol" && /^\d+$/.test(node.getAttribute("start") ?? "")) kept.start = node.getAttribute("start");
  if (/^h[1-6]$/.test(name) && node.id) kept.id = `kb-${node.id}`;
  return el(name, kept, inside());
}

/** Shows cleaned HTML inside a node. */
export function showHtml(place, html, words) {
  // A document made by the parser runs no scripts and loads no images.
  const parsed = new DOMParser().parseFromString(html, "text/html");
  const nodes = [...parsed.body.childNodes].map((node) => copyOf(node, words));
  place.replaceChildren(...nodes.flat(Infinity).filter(Boolean));
}
