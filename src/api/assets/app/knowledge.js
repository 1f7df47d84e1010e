// Knowledge: what the bot answers from, to browse, search and edit; and what it should learn (suggestions).
import { el } from "./dom.js";
import { icon } from "./icons.js";
import { showHtml } from "./safe-html.js";
import { get, query, remove } from "./api.js";
import { attempt, desk, notice, t } from "./desk.js";
import { keys } from "./keys.js";
import { plain } from "./inbox.js";
import { editor } from "./editor.js";
import { showSuggestions } from "./suggestions.js";

const KINDS = ["all", "faq", "article", "desk", "suggestions"];

/** `at`: [kind, item id] of the address. */
export function showKnowledge(place, at) {
  let [kind, id] = [KINDS.includes(at[0]) ? at[0] : "all", at[1] ?? null];
  let items = [], next = null, typed = null, loading = null, suggestions = null;
  const tabs = el("div", { class: "tabs", role: "tablist" }, KINDS.map((name) => el("a", { role: "tab", href: `/console/knowledge/${name}`, "data-kind": name },
    t(name === "suggestions" ? name : `kind_${name}`), el("b", { class: "count", hidden: true }))));
  const search = el("input", { type: "search", placeholder: t("searchKnowledge"), "aria-label": t("searchKnowledge") });
  const fresh = el("button", { type: "button", class: "button", onclick: () => write(null) }, icon("plus", 16), t("newFaq"));
  const list = el("ul", { class: "entries", "aria-label": t("knowledge") });
  const more = el("button", { type: "button", class: "button wide", hidden: true, onclick: () => load(true) }, t("more"));
  const tools = el("div", { class: "row" }, el("label", { class: "search" }, icon("search", 16), search), fresh);
  const pane = el("section", { class: "pane reading", tabindex: "0", "aria-label": t("answer") });
  place.append(el("section", { class: "column" }, el("header", {}, tabs, tools), el("div", { class: "scroll" }, list, more)), pane);

  function row(item) {
    return el("li", {}, el("a", { href: `/console/knowledge/${kind}/${encodeURIComponent(item.id)}`, "data-id": item.id, class: item.id === id ? "chosen" : "", "aria-current": item.id === id ? "true" : null },
      el("span", { class: "line" }, el("strong", {}, item.title), el("span", { class: "faint" }, item.lang)),
      el("span", { class: "last" }, plain(item.snippet)),
      el("span", { class: "chips" }, el("span", { class: `chip kind-${item.kind}` }, t(`kind_${item.kind}`)), el("span", { class: "faint" }, item.path))));
  }

  function drawTabs() {
    for (const tab of tabs.children) {
      tab.classList.toggle("chosen", tab.dataset.kind === kind);
      tab.setAttribute("aria-selected", tab.dataset.kind === kind);
    }
    tools.hidden = kind === "suggestions";
    place.classList.toggle("has-open", Boolean(id));
  }

  function draw() {
    drawTabs();
    if (kind === "suggestions") return;
    list.replaceChildren(...items.map(row));
    if (!items.length) list.replaceChildren(el("li", { class: "nothing" }, el("strong", {}, t("emptyKnowledge"))));
    more.hidden = !next;
  }

  async function load(further = false) {
    loading?.abort();
    loading = new AbortController();
    const { signal } = loading;
    const got = await attempt(() => get(`/knowledge${query({ query: search.value.trim(), kind: kind === "all" ? null : kind, cursor: further ? next : null })}`, signal));
    if (!got || signal.aborted || kind === "suggestions") return;
    items = further ? [...items, ...got.items] : got.items;
    next = got.next;
    draw();
  }

  function nothing() {
    pane.replaceChildren(el("div", { class: "nothing tall" }, icon("knowledge", 34), el("strong", {}, t("pickItem")), el("span", {}, t("pickItemHint"))));
  }

  async function read() {
    if (!id) { nothing(); return; }
    const item = await attempt(() => get(`/knowledge/item${query({ id })}`));
    if (!item || item.id !== id) return;
    const body = el("div", { class: "md" });
    showHtml(body, item.html ?? "", { copy: t("copy"), copied: t("copied") });
    pane.replaceChildren(el("header", { class: "talk-head" },
      el("button", { type: "button", class: "plain back", "aria-label": t("back"), onclick: () => desk.go(`/console/knowledge/${kind}`) }, icon("back")),
      el("div", { class: "talk-name" }, el("span", { class: `chip kind-${item.kind}` }, t(`kind_${item.kind}`)), el("span", { class: "faint" }, `${item.path} · ${item.lang}`)),
      el("div", { class: "row" }, item.editable ? el("button", { type: "button", class: "button", onclick: () => write(item) }, t("editItem")) : null,
        item.editable && item.kind === "desk" ? el("button", { type: "button", class: "button bad", onclick: () => drop(item) }, t("deleteItem")) : null)),
    el("div", { class: "scroll sheet-body" }, el("article", { class: "article" }, el("h2", { class: "article-title" }, item.title), body,
      item.editable ? null : el("p", { class: "soft small" }, t("readOnly")))));
    pane.scrollTop = 0;
  }

  function write(item) {
    id = item?.id ?? "new";
    drawTabs();
    editor(pane, item, {
      cancel: () => { if (item) read(); else { id = null; drawTabs(); nothing(); } },
      saved: (got) => { notice(t("saved")); id = got?.id ?? item?.id ?? null; load(); read(); drawTabs(); },
    });
  }

  async function drop(item) {
    if (!confirm(t("deleteSure"))) return;
    if (await attempt(() => remove(`/knowledge/item${query({ id: item.id, version: item.version })}`))) { desk.go(`/console/knowledge/${kind}`); load(); }
  }

  function showKind() {
    if (kind === "suggestions") {
      nothing();
      more.hidden = true;
      suggestions = showSuggestions(list, pane, { open: (yes) => place.classList.toggle("has-open", yes), counted });
    } else {
      suggestions = null;
      load();
      read();
    }
  }

  function counted(n) {
    const count = tabs.lastChild.lastChild;
    count.textContent = n;
    count.hidden = !n;
  }

  function step(by) {
    const links = [...list.querySelectorAll("a, button.entry")];
    if (!links.length) return;
    const now = links.findIndex((link) => link === document.activeElement || link.classList.contains("chosen"));
    const to = links[Math.max(0, Math.min(links.length - 1, now + by))];
    to.focus();
    to.click();
  }

  search.addEventListener("input", () => { clearTimeout(typed); typed = setTimeout(() => load(), 200); });
  keys({ j: () => step(1), k: () => step(-1), "/": () => search.focus(), n: () => { if (kind !== "suggestions") write(null); }, Escape: () => desk.go(`/console/knowledge/${kind}`) });
  draw();
  showKind();
  if (kind !== "suggestions") get("/suggestions").then((got) => counted(got.items.length), () => {});

  return {
    moved([toKind, toId]) {
      const wanted = KINDS.includes(toKind) ? toKind : "all";
      const changed = wanted !== kind;
      [kind, id] = [wanted, toId ?? null];
      if (changed) { items = []; next = null; list.replaceChildren(); showKind(); } else if (kind !== "suggestions") read();
      draw();
    },
    heard(change) {
      if (change.kind === "suggestion" && kind === "suggestions") suggestions?.load();
      else if (change.kind === "suggestion") get("/suggestions").then((got) => counted(got.items.length), () => {});
      if (change.kind === "knowledge" && kind !== "suggestions") load();
    },
    leave() { clearTimeout(typed); loading?.abort(); },
  };
}
