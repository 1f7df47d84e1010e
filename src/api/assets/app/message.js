// One message of a conversation; under the bot's, what it was made of, and the mark "wrong".
import { copyButton, el } from "./dom.js";
import { show } from "./markdown.js";
import { post } from "./api.js";
import { attempt, desk, t, term } from "./desk.js";
import { sendsWith } from "./keys.js";

/** The sources of an answer as links with their scores. */
export function sourceList(sources) {
  if (!sources?.length) return null;
  return el("ul", { class: "sources", "aria-label": t("sources") }, sources.map((source) => {
    const score = typeof source.score === "number" ? el("span", { class: "score", title: t("score") }, source.score.toFixed(2)) : null;
    const title = source.title || source.id;
    const safe = /^(https?:|\/)/.test(source.url ?? "");
    return el("li", {}, safe ? el("a", { href: source.url, target: "_blank", rel: "noopener noreferrer", title: source.id }, el("span", {}, title), score)
      : el("span", { class: "source", title: source.id }, el("span", {}, title), score));
  }));
}

function correction(turn, place, changed) {
  const right = el("textarea", { rows: 3, maxlength: 8000, "aria-label": t("whatIsRight"), placeholder: t("rightHint") });
  const end = () => form.remove();
  const form = el("form", { class: "correction", onsubmit: async (event) => {
    event.preventDefault();
    const done = await attempt(() => post(`/turns/${encodeURIComponent(turn.id)}/mark`, { wrong: true, right: right.value.trim() || undefined }));
    if (done) { end(); changed(); }
  } }, el("label", {}, t("whatIsRight"), right),
  el("div", { class: "row end" }, el("button", { type: "button", class: "button", onclick: end }, t("cancel")), el("button", { class: "button bad" }, t("mark"))));
  sendsWith(right, () => form.requestSubmit());
  place.append(form);
  right.focus();
}

function outcome(turn, text, changed) {
  const times = [turn.first_token_ms != null ? `${t("firstToken")} ${desk.say.quick(turn.first_token_ms, desk.say.span)}` : null,
    turn.total_ms != null ? `${t("wholeAnswer")} ${desk.say.quick(turn.total_ms, desk.say.span)}` : null].filter(Boolean).join(" · ");
  const place = el("div", { class: "outcome" });
  const mark = turn.mark?.wrong
    ? el("button", { type: "button", class: "plain", onclick: async () => {
      if (await attempt(() => post(`/turns/${encodeURIComponent(turn.id)}/mark`, { wrong: false }))) changed();
    } }, t("unmark"))
    : el("button", { type: "button", class: "plain wrong-button", onclick: () => { if (!place.querySelector("form")) correction(turn, place, changed); } }, t("markWrong"));
  place.append(el("div", { class: "row" },
    el("span", { class: `badge ${turn.action}`, title: turn.reason ?? "" }, term("action", turn.action)),
    turn.kind ? el("span", { class: "faint" }, turn.kind.replaceAll("_", " ")) : null,
    turn.confidence != null ? el("span", { class: "faint", title: t("confidence") }, desk.say.percent(turn.confidence)) : null,
    el("span", { class: "faint grow", title: times }, turn.total_ms != null ? desk.say.quick(turn.total_ms, desk.say.span) : ""),
    el("span", { class: "row acts" }, copyButton(() => text, { copy: t("copy"), copied: t("copied") }, "plain"), mark)));
  if (turn.mark?.wrong) {
    place.append(el("div", { class: "marked" }, el("strong", {}, t("markedWrong", { name: turn.mark.by ?? "" })),
      turn.mark.right ? el("p", {}, el("em", {}, t("right")), turn.mark.right) : null));
  }
  return place;
}

/** A message as a node. `name` is the customer's; `changed()` is called after a mark. */
export function message(one, { name, changed }) {
  const words = { copy: t("copy"), copied: t("copied") };
  if (one.from === "system") return el("p", { class: "said-system" }, one.text, el("time", {}, desk.say.clock(one.at_ms)));
  const who = one.from === "customer" ? name : one.from === "bot" ? `${one.turn?.operator ?? t("from_bot")} · ${t("from_bot")}` : one.person?.name ?? t(`from_${one.from}`);
  const body = el("div", { class: "md" });
  // What customers wrote is shown as they wrote it.
  if (one.from === "customer" || one.from === "note") { body.classList.add("as-written"); body.textContent = one.text; }
  else show(body, one.text, words);
  return el("article", { class: `said said-${one.from}${one.turn?.mark?.wrong ? " wrong" : ""}` },
    el("header", {}, el("strong", {}, who), one.from === "note" ? el("span", { class: "chip" }, t("note")) : null,
      el("time", { title: desk.say.full(one.at_ms) }, desk.say.clock(one.at_ms))),
    body, sourceList(one.turn?.sources), one.turn && one.from === "bot" ? outcome(one.turn, one.text, changed) : null);
}
