// Figures: whether the first line works, as tiles, plots and tables; every rate with its interval.
import { el } from "./dom.js";
import { icon } from "./icons.js";
import { get, query } from "./api.js";
import { attempt, desk, t, term } from "./desk.js";
import { keys } from "./keys.js";
import { bars, interval, stacks, whiskers } from "./plot.js";
import { versionsCard } from "./versions.js";

const DAY = 86_400_000;
const isoDay = (ms) => { const d = new Date(ms); return `${d.getFullYear()}-${String(d.getMonth() + 1).padStart(2, "0")}-${String(d.getDate()).padStart(2, "0")}`; };
const startOf = (day) => new Date(`${day}T00:00:00`).getTime();

export function showFigures(place) {
  let gone = false, asked = 0;
  const from = el("input", { type: "date", value: isoDay(Date.now() - 29 * DAY), "aria-label": t("fromDay") });
  const to = el("input", { type: "date", value: isoDay(Date.now()), "aria-label": t("toDay") });
  const pick = (word) => el("select", { "aria-label": t(word) }, el("option", { value: "" }, t(word)));
  const [operator, version, channel] = [pick("allOperators"), pick("allVersions"), pick("allChannels")];
  const csv = el("a", { class: "button", download: "figures.csv" }, icon("download", 16), t("csv"));
  const presets = el("div", { class: "tabs small" }, [7, 30, 90].map((days) => el("button", { type: "button", "data-days": days, onclick: () => {
    from.value = isoDay(Date.now() - (days - 1) * DAY);
    to.value = isoDay(Date.now());
    load();
  } }, t(`last${days}`))));
  const body = el("div", { class: "figures" });
  const versions = el("div");
  get("/versions").then((got) => versions.replaceChildren(versionsCard(got)), () => {});
  place.append(el("header", { class: "filters" }, presets, el("span", { class: "row" }, from, "–", to), operator, version, channel, el("span", { class: "grow" }), csv), el("div", { class: "scroll", tabindex: "0", "aria-label": t("figures"), role: "region" }, body));

  const filter = () => ({ from: startOf(from.value), to: startOf(to.value) + DAY, operator: operator.value, version: version.value, channel: channel.value });

  /** Adds what is not yet in a list of choices. */
  function offer(select, names) {
    const known = new Set([...select.options].map((option) => option.value));
    for (const name of names) if (name && !known.has(name)) select.append(el("option", { value: name }, name));
  }

  async function load() {
    if (!from.value || !to.value) return;
    const mine = ++asked;
    for (const button of presets.children) button.classList.toggle("chosen", to.value === isoDay(Date.now()) && from.value === isoDay(Date.now() - (button.dataset.days - 1) * DAY));
    csv.href = `/console/api/figures.csv${query({ ...filter(), by: "day" })}`;
    const got = await attempt(() => Promise.all(["day", "operator", "version", "channel"].map((by) => get(`/figures${query({ ...filter(), by })}`))));
    if (!got || gone || mine !== asked) return;
    const [byDay, byOperator, byVersion, byChannel] = got;
    offer(operator, byOperator.rows.map((row) => row.key));
    // A row is named operator/version; the filter asks for the version alone.
    offer(version, byVersion.rows.map((row) => row.key.split("/").pop()));
    offer(channel, byDay.channels ?? []);
    channel.hidden = channel.options.length < 2;
    if (!byDay.total?.conversations) { body.replaceChildren(el("div", { class: "nothing tall" }, icon("figures", 34), el("strong", {}, t("noFigures")))); return; }
    body.replaceChildren(tiles(byDay.total), plots(byDay, filter()), breakdowns(byDay.total), table(t("byOperator"), byOperator.rows), table(t("byVersion"), byVersion.rows), byChannel.rows.length > 1 ? table(t("byChannel"), byChannel.rows) : el("span"), versions);
  }

  for (const field of [from, to, operator, version, channel]) field.addEventListener("change", load);
  keys({ "/": () => from.focus() });
  load();
  return { leave() { gone = true; } };
}

const hintOf = (rate) => (rate?.low == null ? desk.say.percent(rate?.value) : `${desk.say.percent(rate.value)} · ${t("interval", { low: desk.say.percent(rate.low), high: desk.say.percent(rate.high) })}`);
const quick = (ms) => desk.say.quick(ms, desk.say.span);

function tile(title, value, ...below) {
  return el("section", { class: "tile" }, el("h2", {}, title), el("strong", {}, value), ...below);
}

function tiles(total) {
  const { say } = desk;
  const rate = (data) => (data ? interval(data, hintOf(data)) : null);
  const confirmed = total.resolved_confirmed ?? 0, assumed = total.resolved_assumed ?? 0;
  return el("div", { class: "tiles" },
    tile(t("resolution"), say.percent(total.resolution_rate?.value), rate(total.resolution_rate), el("p", {}, t("resolutionHint", { n: total.real })),
      el("p", {}, `${t("confirmed")} ${say.number(confirmed)} · ${t("assumed")} ${say.number(assumed)}`)),
    tile(t("handoffs"), say.percent(total.handoff_rate?.value), rate(total.handoff_rate), el("p", {}, t("handoffsHint"))),
    tile(t("conversations"), say.number(total.conversations), el("p", {}, t("realOnes", { n: total.real }))),
    tile(t("firstAnswer"), quick(total.first_token_ms?.median), el("p", {}, `${t("p95")} ${quick(total.first_token_ms?.p95)}`), el("p", {}, `${t("fullAnswer")} ${quick(total.full_answer_ms?.median)} · ${quick(total.full_answer_ms?.p95)}`)),
    tile(t("personReply"), quick(total.person_first_reply_ms?.median), el("p", {}, `${t("p95")} ${quick(total.person_first_reply_ms?.p95)}`)),
    tile(t("turnsTile"), say.number(total.turns?.median), el("p", {}, `${t("mean")} ${say.number(total.turns?.mean)}`)),
    tile(t("cost"), say.money(total.cost_per_conversation, total.currency), el("p", {}, t("personCost", { cost: say.money(total.person_cost, total.currency) }))));
}

/** Every day of the range, also those without conversations. */
function daysOf(rows, { from, to }) {
  const known = new Map(rows.map((row) => [row.key, row]));
  const days = [];
  for (let ms = from + DAY / 2; ms < to && days.length < 400; ms += DAY) days.push([ms, known.get(isoDay(ms)) ?? null]);
  const first = days.findIndex(([, row]) => row);
  return first < 0 ? rows.map((row) => [startOf(row.key), row]) : days.slice(Math.max(0, Math.min(first, days.length - 7)));
}

function plots(byDay, range) {
  const { say } = desk;
  const days = daysOf(byDay.rows, range);
  const rates = days.map(([ms, row]) => {
    const rate = row?.real ? row.resolution_rate : null;
    return { name: say.day(ms), value: rate?.value ?? null, low: rate?.low, high: rate?.high, hint: `${say.day(ms)}: ${hintOf(rate)}` };
  });
  const volume = days.map(([ms, row]) => {
    const parts = row ? [row.resolved_confirmed ?? 0, row.resolved_assumed ?? 0] : [0, 0];
    const handed = row ? Object.values(row.handoffs_by_reason ?? {}).reduce((sum, n) => sum + n, 0) : 0;
    parts.push(handed, Math.max(0, (row?.conversations ?? 0) - parts[0] - parts[1] - handed));
    return { name: say.day(ms), parts, hint: `${say.day(ms)}: ${say.number(row?.conversations ?? 0)}` };
  });
  const legend = [t("confirmed"), t("assumed"), t("handoffs"), t("other")];
  return el("div", { class: "two-plots" },
    el("section", { class: "card" }, el("h2", {}, t("byDay")), el("p", { class: "soft small" }, t("byDayHint")), whiskers(rates, { label: (mark) => say.percent(mark), title: t("byDay") })),
    el("section", { class: "card" }, el("h2", {}, t("volume")), el("p", { class: "legend" }, legend.map((word, n) => el("span", { class: `key-${n}` }, word))),
      stacks(volume, { label: (mark) => say.number(mark), title: t("volume") })));
}

function breakdowns(total) {
  const card = (title, kind, counts) => {
    const rows = Object.entries(counts ?? {}).sort((a, b) => b[1] - a[1]);
    return rows.length ? el("section", { class: "card" }, el("h2", {}, title), bars(rows.map(([name, n]) => [term(kind, name), n]), desk.say.number)) : null;
  };
  return el("div", { class: "two-plots" }, card(t("byReason"), "reason", total.handoffs_by_reason), card(t("byFiltered"), "filtered", total.filtered_by_kind));
}

function table(title, rows) {
  if (!rows.length) return el("span");
  const { say } = desk;
  const head = [t("operator"), t("conversations"), t("real"), t("resolution"), "", t("handoffs"), "", t("turnsTile"), t("firstAnswer"), t("cost")];
  head[0] = title;
  return el("section", { class: "card wide-table" }, el("table", {}, el("thead", {}, el("tr", {}, head.map((word) => (word ? el("th", { scope: "col" }, word) : el("td"))))),
    el("tbody", {}, rows.map((row) => el("tr", {}, el("th", { scope: "row" }, row.key || "–"), el("td", {}, say.number(row.conversations)), el("td", {}, say.number(row.real)),
      el("td", {}, say.percent(row.resolution_rate?.value)), el("td", { class: "wide-cell" }, row.resolution_rate ? interval(row.resolution_rate, hintOf(row.resolution_rate)) : null),
      el("td", {}, say.percent(row.handoff_rate?.value)), el("td", { class: "wide-cell" }, row.handoff_rate ? interval(row.handoff_rate, hintOf(row.handoff_rate)) : null),
      el("td", {}, say.number(row.turns?.median)), el("td", {}, quick(row.first_token_ms?.median)), el("td", {}, say.money(row.cost_per_conversation, row.currency)))))));
}
