// The panel "why this answer": everything that the turn weighed, from the `support` field and its trace.
import { el } from "./dom.js";

const percent = (share) => `${Math.round(share * 100)} %`;
const number = (value) => (value == null ? "–" : Math.abs(value) >= 10 ? value.toFixed(1) : value.toFixed(3));

/** A share as a bar; `mark` is a threshold on it. */
function bar(share, mark) {
  const clamp = (value) => Math.max(0, Math.min(100, value * 100));
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "meter");
  svg.setAttribute("viewBox", "0 0 100 6");
  svg.setAttribute("preserveAspectRatio", "none");
  const part = (kind, x, width) => {
    const rect = document.createElementNS(svg.namespaceURI, "rect");
    rect.setAttribute("class", kind);
    for (const [name, value] of Object.entries({ x, y: 0, width, height: 6 })) rect.setAttribute(name, value);
    svg.append(rect);
  };
  part("ground", 0, 100);
  part("value", 0, clamp(share));
  if (mark != null) part("mark", Math.min(99, clamp(mark)), 1);
  return svg;
}

function section(title, ...children) {
  return el("section", {}, el("h3", {}, title), ...children);
}

function facts(rows) {
  return el("dl", {}, rows.filter(([, value]) => value != null && value !== "")
    .map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

function filters(list, words) {
  if (!list?.length) return null;
  const rows = [...list].sort((a, b) => b.fired - a.fired || b.score - a.score).map((verdict) =>
    el("li", { class: verdict.fired ? "fired" : "", title: verdict.reason },
      el("span", { class: "name" }, verdict.name), bar(verdict.score, verdict.threshold),
      el("span", { class: "num" }, number(verdict.score)),
      verdict.fired && verdict.reason ? el("p", {}, verdict.reason) : null));
  return section(words.filters, el("ul", { class: "rows" }, rows));
}

function passages(list, words) {
  if (!list?.length) return null;
  const rows = list.map((passage) => el("li", { class: passage.used ? "used" : "" },
    el("div", { class: "title" }, passage.title || passage.id, passage.used ? el("span", { class: "tag" }, words.used) : null),
    el("div", { class: "id" }, passage.id),
    el("div", { class: "scores" },
      `${words.fused} ${number(passage.score)} · ${words.meaning} ${number(passage.cosine)} · ${words.words} ${number(passage.bm25)} · ${words.coverage} ${percent(passage.coverage ?? 0)}`)));
  return section(words.passages, el("ol", { class: "passages" }, rows));
}

function checks(list, words) {
  if (!list?.length) return null;
  const rows = list.map((check) => el("li", { class: check.kept ? "kept" : "cut" },
    el("p", {}, check.sentence), el("span", { class: "num" }, `${check.kept ? words.kept : words.cut}${check.reason ? ` · ${check.reason}` : ""}`)));
  return section(words.checks, el("ul", { class: "checks" }, rows));
}

function timings(times, words) {
  const entries = Object.entries(times ?? {});
  if (!entries.length) return null;
  const longest = Math.max(1, ...entries.map(([, ms]) => ms));
  const rows = entries.map(([step, ms]) => el("li", {}, el("span", { class: "name" }, step), bar(ms / longest),
    el("span", { class: "num" }, `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`)));
  return section(words.timings, el("ul", { class: "rows" }, rows));
}

/** Shows a turn's `support` field in the panel. */
export function showWhy(body, support, usage, words) {
  const trace = support.trace ?? {};
  const badge = el("span", { class: `badge ${support.action}` }, words.action[support.action] ?? support.action);
  const cached = usage?.prompt_tokens_details?.cached_tokens ?? 0;
  const counted = usage && usage.total_tokens > 0
    ? `${words.prompt} ${usage.prompt_tokens} (${words.cached} ${cached}) · ${words.answer} ${usage.completion_tokens}` : null;
  const parts = [
    el("section", { class: "verdict" }, el("div", {}, badge, el("code", {}, support.kind)), el("p", {}, support.reason)),
    section(words.outcome, facts([
      [words.operator, `${support.operator} · ${support.operator_version}`],
      [words.confidence, el("span", { class: "with-meter" }, bar(support.confidence ?? 0), percent(support.confidence ?? 0))],
      [words.route, trace.route], [words.mode, trace.mode], [words.query, trace.query], [words.tokens, counted],
    ])),
    filters(trace.filters, words), passages(trace.passages, words), checks(trace.checks, words), timings(trace.timings_ms, words),
    el("details", {}, el("summary", {}, words.raw), el("pre", {}, JSON.stringify(support, null, 2))),
  ];
  body.replaceChildren(...parts.filter(Boolean));
  body.scrollTop = 0;
}
