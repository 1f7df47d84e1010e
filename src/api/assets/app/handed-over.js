// What a person must know before the first word: why it was handed over, what was tried, who this is.
import { el } from "./dom.js";
import { sourceList } from "./message.js";
import { desk, t, term } from "./desk.js";

function facts(rows) {
  return el("dl", { class: "facts" }, rows.filter(([, value]) => value != null && value !== "").map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

function tried(list) {
  if (!list?.length) return el("p", { class: "soft" }, t("nothingTried"));
  return el("ol", { class: "tried" }, list.map((one) => el("li", {}, el("q", {}, one.question), sourceList(one.sources))));
}

/** The nodes of the side panel. */
export function aside(item) {
  const { handoff } = item;
  // The reason and the language stand beside them already.
  const tags = (handoff?.tags ?? item.tags ?? []).filter((tag) => tag !== handoff?.kind && tag !== item.language);
  return [
    handoff ? el("details", { class: "card handed", open: matchMedia("(min-width: 760px)").matches },
      el("summary", {}, el("span", {}, t("handedOver"), el("b", { class: "reason" }, term("reason", handoff.kind ?? handoff.reason))), el("span", { class: "faint" }, handoff.since_ms ? desk.say.when(handoff.since_ms) : "")),
      handoff.kind && handoff.reason !== handoff.kind ? el("p", { class: "soft small" }, handoff.reason) : null,
      handoff.summary ? el("p", { class: "handoff-summary" }, handoff.summary) : null,
      facts([[t("queue"), handoff.queue], [t("language"), desk.say.language(item.language)], [t("mood"), term("mood", handoff.mood)]]),
      tags.length ? el("div", { class: "chips" }, tags.map((tag) => el("span", { class: "chip" }, term("reason", tag)))) : null,
      el("h3", {}, t("tried")), tried(handoff.tried)) : null,
    el("details", { class: "card", open: matchMedia("(min-width: 1200px)").matches }, el("summary", {}, t("details")),
      facts([[t("operator"), item.operator ? `${item.operator}${item.operator_version ? ` · ${item.operator_version}` : ""}` : null], [t("team"), item.team], [t("channel"), item.channel],
        [t("language"), handoff ? null : desk.say.language(item.language)], [t("mood"), handoff ? null : term("mood", item.mood)], [t("started"), desk.say.full(item.started_ms)], ["ID", el("code", {}, item.id)]]),
      item.events?.length ? el("h3", {}, t("history")) : null,
      item.events?.length ? el("ol", { class: "events" }, item.events.map((event) => el("li", {}, el("time", {}, desk.say.clock(event.at_ms)), el("span", {}, desk.say.has(`event_${event.kind}`) ? `${t(`event_${event.kind}`)}${event.by ? `: ${event.by}` : ""}` : event.text || event.kind)))) : null),
  ].filter(Boolean);
}
