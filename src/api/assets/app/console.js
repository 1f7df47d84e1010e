// The console's frame: signing in, the rail of pages, and which page is open.
import { el } from "./dom.js";
import { icon } from "./icons.js";
import { get, post, rememberCsrf } from "./api.js";
import { attempt, desk, hear, notice, speak, t } from "./desk.js";
import { help, keys, listenToKeys } from "./keys.js";
import { showSignIn } from "./sign-in.js";
import { showInbox } from "./inbox.js";
import { showAsk } from "./ask.js";
import { showKnowledge } from "./knowledge.js";
import { showFigures } from "./figures.js";
import { showPeople } from "./people.js";

const PAGES = [
  { name: "inbox", show: showInbox }, { name: "ask", show: showAsk }, { name: "knowledge", show: showKnowledge },
  { name: "figures", show: showFigures }, { name: "people", show: showPeople, leadOnly: true },
];
const app = document.getElementById("app");
/** The open page: `{name, heard(change), leave()}`. */
let open = null;
let feed = null;

function mine() {
  return PAGES.filter((page) => !page.leadOnly || desk.me.role === "lead");
}

// ---- the frame ----

function rail() {
  const links = mine().map((page) => el("a", { href: `/console/${page.name}`, "data-page": page.name, title: t(page.name) },
    icon(page.name, 20), el("span", {}, t(page.name)), el("b", { class: "count", hidden: true })));
  return el("nav", { class: "rail", "aria-label": "Firstline" },
    el("a", { class: "mark", href: "/console/inbox", "aria-label": "Firstline" },
      el("img", { src: "/console/assets/logo.svg", alt: "", width: 28, height: 28 }),
      el("span", {}, el("strong", {}, desk.me.company?.name ?? "Firstline"), el("em", { id: "feed-state" }, t("live")))),
    el("div", { class: "pages" }, links),
    el("div", { class: "rail-foot" },
      el("button", { type: "button", class: "plain keys-button", onclick: help }, el("kbd", {}, "?"), el("span", {}, t("keys"))),
      el("button", { type: "button", class: "plain who-am-i", onclick: account, title: desk.me.name },
        el("i", { class: "face" }, initials(desk.me.name)), el("span", {}, desk.me.name))));
}

function initials(name) {
  return name.split(/\s+/).filter(Boolean).slice(0, 2).map((word) => [...word][0].toUpperCase()).join("") || "?";
}

function showFrame() {
  app.replaceChildren(el("a", { class: "skip", href: "#content" }, t("skip")), rail(), el("main", { id: "content", tabindex: "-1" }));
  showCounts();
}

function showCounts() {
  const count = app.querySelector("[data-page=inbox] .count");
  if (!count) return;
  const waiting = desk.me.counts?.waiting ?? 0;
  count.textContent = waiting;
  count.hidden = waiting === 0;
  count.setAttribute("aria-label", `${t("view_waiting")}: ${waiting}`);
  document.title = `${waiting ? `(${waiting}) ` : ""}${open ? t(open.name) : "Firstline"} · ${desk.me.company?.name ?? "Firstline"}`;
}

async function refreshCounts() {
  try {
    const me = await get("/me");
    desk.me.counts = me.counts;
    window.dispatchEvent(new Event("counts"));
    showCounts();
  } catch { /* the feed's state shows a server that is gone */ }
}

function account() {
  const old = el("input", { type: "password", autocomplete: "current-password", required: true });
  const fresh = el("input", { type: "password", autocomplete: "new-password", required: true, minlength: 10 });
  const dialog = el("dialog", { class: "sheet", "aria-labelledby": "account-title" },
    el("h2", { id: "account-title" }, desk.me.name), el("p", { class: "soft" }, `${desk.me.login} · ${t(`role_${desk.me.role}`)}`),
    el("div", { class: "row" },
      el("button", { type: "button", class: "button", onclick: () => { speak(desk.say.lang === "en" ? "ru" : "en"); dialog.close(); enter(); } }, t("otherLanguage")),
      el("button", { type: "button", class: "button", onclick: () => attempt(async () => { await post("/logout"); location.assign("/console/"); }) }, t("signOut"))),
    el("form", { class: "stack", onsubmit: async (event) => {
      event.preventDefault();
      const done = await attempt(() => post("/password", { old: old.value, new: fresh.value }));
      if (done) { dialog.close(); notice(t("passwordChanged")); }
    } }, el("h3", {}, t("changePassword")), el("label", {}, t("oldPassword"), old), el("label", {}, t("newPassword"), fresh, el("small", {}, t("passwordHint"))),
    el("div", { class: "row end" }, el("button", { type: "button", class: "button", onclick: () => dialog.close() }, t("close")), el("button", { class: "button main" }, t("save")))));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

// ---- which page is open ----

function route() {
  if (!desk.me) return;
  const [name, ...rest] = location.pathname.replace(/^\/console\/?/, "").split("/").map(decodeURIComponent);
  const page = mine().find((one) => one.name === name) ?? PAGES[0];
  if (open?.name === page.name && open.moved) {
    open.moved(rest);
  } else {
    open?.leave?.();
    keys({});
    const place = document.getElementById("content");
    place.replaceChildren();
    place.className = `page-${page.name}`;
    place.append(el("h1", { class: "off-screen" }, t(page.name)));
    open = { name: page.name };
    Object.assign(open, page.show(place, rest));
  }
  for (const link of app.querySelectorAll(".pages a")) {
    if (link.dataset.page === page.name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  showCounts();
}

desk.go = (path, replace = false) => {
  if (path !== location.pathname) history[replace ? "replaceState" : "pushState"](null, "", path);
  route();
};

// ---- start ----

function feedState(up) {
  const place = document.getElementById("feed-state");
  if (!place) return;
  const [lost, fresh] = [place.classList.contains("lost"), !place.classList.contains("followed")];
  place.textContent = t(up ? "live" : "reconnecting");
  place.classList.toggle("lost", !up);
  place.classList.toggle("followed", up || !fresh);
  // What changed while the feed was gone, or before it first came, is read anew; the feed's own memory may not reach back that far.
  if (up && (lost || fresh)) { refreshCounts(); open?.heard?.({ kind: "all" }); }
}

function enter() {
  open?.leave?.();
  open = null;
  showFrame();
  route();
  feed?.close();
  feed = hear((change) => {
    if (change.kind === "queue" || change.kind === "owner") refreshCounts();
    open?.heard?.(change);
  }, feedState);
}

function leave() {
  if (!desk.me && app.querySelector(".sign-in")) return;
  feed?.close();
  feed = null;
  open?.leave?.();
  open = null;
  desk.me = null;
  keys({});
  showSignIn(app, start, () => { speak(desk.say.lang === "en" ? "ru" : "en"); leave(); });
}

async function start() {
  try {
    const me = await get("/me");
    desk.me = me;
    rememberCsrf(me.csrf);
    if (/^\/console\/?(join)?$/.test(location.pathname)) history.replaceState(null, "", "/console/inbox");
    enter();
  } catch (error) {
    if (error.status === 401 || error.status === 403) { app.replaceChildren(); leave(); return; }
    app.replaceChildren(el("p", { class: "centre soft" }, t("offline")));
    setTimeout(start, 2000);
  }
}

app.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='/console/']");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || link.hasAttribute("download") || link.target) return;
  event.preventDefault();
  desk.go(new URL(link.href).pathname);
});
window.addEventListener("popstate", route);
window.addEventListener("signed-out", () => { if (desk.me) leave(); });
speak();
listenToKeys();
start();
