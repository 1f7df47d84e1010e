// Which versions of the operators are live, with which shares, and who promoted them why.
import { el, svg } from "./dom.js";
import { desk, t } from "./desk.js";

function share(versions) {
  let at = 0;
  const parts = versions.map((version, n) => {
    const part = svg("rect", { class: `part-${n % 4}`, x: 100 * at, width: 100 * version.share, height: 8 });
    at += version.share;
    return part;
  });
  return svg("svg", { viewBox: "0 0 100 8", preserveAspectRatio: "none", class: "share", "aria-hidden": "true" }, parts);
}

/** A card from `GET /versions`. */
export function versionsCard({ items, promotions }) {
  const rows = items.map((one) => el("tr", {}, el("th", { scope: "row" }, one.operator), el("td", { class: "wide-cell" }, share(one.versions)),
    el("td", {}, one.versions.filter((version) => version.share > 0 || version.active).map((version) => el("span", { class: `chip${version.active ? " owner-bot" : ""}` }, `${version.version} · ${desk.say.percent(version.share)}`)))));
  return el("section", { class: "card wide-table" }, el("h2", {}, t("liveShares")), el("table", {}, el("tbody", {}, rows)),
    promotions?.length ? el("h2", {}, t("promotions")) : null,
    promotions?.length ? el("ul", { class: "promotions" }, promotions.map((one) => el("li", {}, el("time", {}, desk.say.full(one.at_ms)), ` ${one.operator}: ${one.from} → ${one.to} `,
      one.forced ? el("span", { class: "chip waiting" }, t("forced")) : null, one.reason ? ` ${one.reason}` : ""))) : null);
}
