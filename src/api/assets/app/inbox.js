// The inbox: the list of conversations on the left, the open one on the right.
import { el } from "./dom.js";
import { icon } from "./icons.js";
import { get, query } from "./api.js";
import { attempt, desk, t, term } from "./desk.js";
import { keys } from "./keys.js";
import { openConversation } from "./conversation.js";

const AGAIN_MS = 5000;
const VIEWS = ["waiting", "mine", "live", "closed"];

/** The name by which the desk knows a customer. */
export function nameOf(conversation) {
  return conversation.customer?.name || `${t("visitor")} ${conversation.id.replace(/^\D+[-_]/, "").slice(0, 5)}`;
}

/** How long a customer waits, coloured by length; counts on by itself. */
export function waitingChip(since) {
  const chip = el("span", { class: "chip waiting", "data-since": since }, "");
  tick(chip);
  return chip;
}

function tick(chip) {
  const ms = Date.now() - Number(chip.dataset.since);
  chip.textContent = t("waitingFor", { time: desk.say.span(ms) });
  chip.classList.toggle("long", ms > 5 * 60_000);
}

/** `at`: [view, id] of the address. */
export function showInbox(place, at) {
  let [view, id] = VIEWS.includes(at[0]) ? at : [desk.me.counts?.waiting ? "waiting" : "live", null];
  let items = [], next = null, loading = null, opened = null, typed = null, again = null;

  const tabs = el("div", { class: "tabs", role: "tablist" }, VIEWS.map((name) => el("a", {
    role: "tab", href: `/console/inbox/${name}`, "data-view": name }, t(`view_${name}`), el("b", { class: "count", hidden: true }))));
  const search = el("input", { type: "search", placeholder: t("searchInbox"), "aria-label": t("searchInbox") });
  const team = el("select", { "aria-label": t("team") }, el("option", { value: "" }, t("allTeams")),
    (desk.me.teams ?? []).map((name) => el("option", { value: name }, name)));
  team.hidden = (desk.me.teams ?? []).length < 2;
  const list = el("ul", { class: "conversations", "aria-label": t("inbox") });
  const more = el("button", { type: "button", class: "button wide", hidden: true, onclick: () => load(true) }, t("more"));
  const pane = el("section", { class: "pane", "aria-label": t("facts") });
  place.append(el("section", { class: "column" }, el("header", {}, tabs, el("div", { class: "row" }, el("label", { class: "search" }, icon("search", 16), search), team)),
    el("div", { class: "scroll" }, list, more)), pane);

  function row(item) {
    const held = item.owner === "person" ? (item.person?.id === desk.me.id ? t("withYou") : t("withWhom", { name: item.person?.name ?? "" })) : t(`owner_${item.owner}`);
    const last = item.last ? `${item.last.from === "customer" ? "" : `${t(`from_${item.last.from}`)}: `}${plain(item.last.text)}` : "";
    return el("li", {}, el("a", { href: `/console/inbox/${view}/${encodeURIComponent(item.id)}`, "data-id": item.id, class: item.id === id ? "chosen" : "",
      "aria-current": item.id === id ? "true" : null },
    el("span", { class: "line" }, el("strong", {}, nameOf(item)), el("time", {}, desk.say.when(item.updated_ms))),
    el("span", { class: "last" }, last),
    el("span", { class: "chips" },
      item.owner === "waiting" ? waitingChip(item.waiting_since_ms ?? item.updated_ms) : item.closed_as ? null : el("span", { class: `chip owner-${item.owner}` }, held),
      item.handoff_kind && item.owner !== "bot" ? el("span", { class: "chip", title: item.handoff_reason }, term("reason", item.handoff_kind)) : null,
      item.closed_as ? el("span", { class: `chip closed-${item.closed_as}` }, term("close", item.closed_as)) : null,
      item.channel ? el("span", { class: "faint" }, item.channel) : null,
      item.operator ? el("span", { class: "faint" }, item.operator) : null,
      item.language ? el("span", { class: "faint" }, item.language) : null)));
  }

  function draw() {
    for (const tab of tabs.children) {
      const chosen = tab.dataset.view === view;
      tab.setAttribute("aria-selected", chosen);
      tab.classList.toggle("chosen", chosen);
      const count = desk.me.counts?.[tab.dataset.view];
      tab.lastChild.textContent = count ?? "";
      tab.lastChild.hidden = !count;
    }
    const focused = list.contains(document.activeElement) ? document.activeElement.dataset.id : null;
    list.replaceChildren(...items.map(row));
    if (!items.length) list.replaceChildren(el("li", { class: "nothing" }, el("strong", {}, t(`empty_${view}`)), el("span", {}, t("emptyHint"))));
    if (focused) list.querySelector(`[data-id="${CSS.escape(focused)}"]`)?.focus();
    more.hidden = !next;
    place.classList.toggle("has-open", Boolean(id));
  }

  async function load(further = false) {
    loading?.abort();
    loading = new AbortController();
    const { signal } = loading;
    const got = await attempt(() => get(`/conversations${query({ view, team: team.value, query: search.value.trim(), cursor: further ? next : null, limit: 50 })}`, signal));
    if (signal.aborted) return;
    // A list that could not be had is asked for again; no event need come for that.
    if (!got) { clearTimeout(again); again = setTimeout(() => load(), AGAIN_MS); return; }
    items = further ? [...items, ...got.items] : got.items;
    next = got.next;
    draw();
  }

  function showOpen() {
    opened?.leave();
    opened = null;
    if (id) opened = openConversation(pane, id, { back: () => desk.go(`/console/inbox/${view}`), changed: () => load() });
    else pane.replaceChildren(el("div", { class: "nothing tall" }, icon("inbox", 34), el("strong", {}, t("pickOne")), el("span", {}, t("pickHint"))));
  }

  function step(by) {
    if (!items.length) return;
    const links = [...list.querySelectorAll("a")];
    const now = links.findIndex((link) => link === document.activeElement);
    const from = now >= 0 ? now : items.findIndex((item) => item.id === id);
    const to = Math.max(0, Math.min(links.length - 1, from + by));
    links[to].focus();
    links[to].scrollIntoView({ block: "nearest" });
    if (matchMedia("(min-width: 900px)").matches) desk.go(`/console/inbox/${view}/${encodeURIComponent(links[to].dataset.id)}`);
  }

  search.addEventListener("input", () => { clearTimeout(typed); typed = setTimeout(() => load(), 200); });
  team.addEventListener("change", () => load());
  keys({ j: () => step(1), k: () => step(-1), "/": () => search.focus(), Enter: () => document.activeElement.click?.(),
    r: () => opened?.reply(), n: () => opened?.note(), t: () => opened?.take(), Escape: () => desk.go(`/console/inbox/${view}`) });
  const clock = setInterval(() => place.querySelectorAll(".chip.waiting").forEach(tick), 1000);
  const counted = () => draw();
  window.addEventListener("counts", counted);
  draw();
  load();
  showOpen();

  let soon = null;
  return {
    moved([toView, toId]) {
      const wanted = VIEWS.includes(toView) ? toView : view;
      const [otherView, otherId] = [wanted !== view, (toId ?? null) !== id];
      view = wanted;
      id = toId ?? null;
      if (otherView) { items = []; next = null; load(); }
      draw();
      if (otherId) showOpen();
    },
    heard(change) {
      // Many changes in one moment make one request.
      if (!soon) soon = setTimeout(() => { soon = null; load(); }, 120);
      opened?.heard(change);
    },
    leave() {
      clearInterval(clock);
      clearTimeout(soon);
      clearTimeout(typed);
      clearTimeout(again);
      loading?.abort();
      opened?.leave();
      window.removeEventListener("counts", counted);
    },
  };
}

/** The first words of Markdown, without its marks. */
export function plain(markdown) {
  return (markdown ?? "").replace(/```[\s\S]*?(```|$)/g, "[…]").replace(/!\[([^\]]*)\]\([^)]*\)/g, "$1").replace(/\[([^\]]*)\]\([^)]*\)/g, "$1")
    .replace(/[*_`#>]+/g, "").replace(/\s+/g, " ").trim().slice(0, 200);
}
