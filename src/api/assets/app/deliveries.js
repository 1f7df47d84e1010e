// The log of webhooks: what went out, what is tried again, what was given up.
import { el } from "./dom.js";
import { get, query } from "./api.js";
import { attempt, desk, t, term } from "./desk.js";

/** A card with the log; empty while no webhook was ever due. */
export function deliveries() {
  const rows = el("tbody", {});
  const more = el("button", { type: "button", class: "button", hidden: true, onclick: () => load() }, t("more"));
  const card = el("section", { class: "card wide-table", hidden: true }, el("h2", {}, t("deliveries")),
    el("table", {}, el("thead", {}, el("tr", {}, ["started", "endpoint", "event", "state", "attempts"].map((word) => el("th", { scope: "col" }, t(word))))), rows), more);
  let next = null;

  function row(line) {
    const told = [line.status, line.error].filter((part) => part != null).join(" · ");
    return el("tr", {}, el("td", {}, desk.say.full(line.created_ms)), el("th", { scope: "row" }, line.endpoint), el("td", {}, line.kind),
      el("td", {}, el("span", { class: `chip delivery-${line.state}`, title: told }, term("delivery", line.state)), told && line.state !== "delivered" ? el("span", { class: "faint" }, ` ${told}`) : null),
      el("td", {}, desk.say.number(line.attempts)));
  }

  async function load() {
    const got = await attempt(() => get(`/deliveries${query({ cursor: next, limit: 20 })}`));
    if (!got) return;
    rows.append(...got.items.map(row));
    next = got.next;
    more.hidden = !next;
    card.hidden = rows.childElementCount === 0;
  }

  load();
  return card;
}
