// Small plots in SVG, drawn from numbers: points with whiskers, stacked bars, and an interval in a line of a table.
import { el, svg } from "./dom.js";

const WIDTH = 720, LEFT = 42, RIGHT = 10, TOP = 12, BOTTOM = 26;

/** Round steps from 0 to at least `top`. */
export function steps(top, wanted = 4) {
  if (!(top > 0)) return [0, 1];
  const rough = top / wanted, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= rough && (top < 4 ? true : one >= 1));
  const list = [0];
  while (list.at(-1) < top - 1e-9) list.push(Number((list.at(-1) + step).toPrecision(6)));
  return list;
}

function frame(height, marks, label, columns, title) {
  const y = (value) => height - BOTTOM - ((value - marks[0]) / (marks.at(-1) - marks[0])) * (height - TOP - BOTTOM);
  const span = (WIDTH - LEFT - RIGHT) / Math.max(1, columns.length);
  const x = (n) => LEFT + span * (n + 0.5);
  const every = Math.ceil(columns.length / 10);
  const root = svg("svg", { viewBox: `0 0 ${WIDTH} ${height}`, class: "plot", role: "img", "aria-label": title },
    marks.map((mark) => [svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(mark), y2: y(mark) }), svg("text", { class: "axis", x: LEFT - 8, y: y(mark) + 4, "text-anchor": "end" }, label(mark))]),
    columns.map((name, n) => (n % every === 0 ? svg("text", { class: "axis", x: x(n), y: height - 8, "text-anchor": "middle" }, name) : null)));
  return { root, x, y, span };
}

/** Shares (0 to 1) with whiskers: `points` of `{name, value, low, high, hint}`; a missing value leaves a gap. */
export function whiskers(points, { label, title, height = 230 }) {
  const { root, x, y } = frame(height, [0, 0.25, 0.5, 0.75, 1], label, points.map((point) => point.name), title);
  let path = "", gap = true;
  points.forEach((point, n) => {
    if (point.value == null) { gap = true; return; }
    path += `${gap ? "M" : "L"}${x(n).toFixed(1)} ${y(point.value).toFixed(1)}`;
    gap = false;
  });
  root.append(svg("path", { class: "trend", d: path }));
  points.forEach((point, n) => {
    if (point.value == null) return;
    const parts = [];
    if (point.low != null && point.high != null) {
      parts.push(svg("line", { class: "whisker", x1: x(n), x2: x(n), y1: y(point.low), y2: y(point.high) }));
      for (const end of [point.low, point.high]) parts.push(svg("line", { class: "whisker", x1: x(n) - 3.5, x2: x(n) + 3.5, y1: y(end), y2: y(end) }));
    }
    root.append(svg("g", {}, svg("title", {}, point.hint), parts, svg("circle", { class: "point", cx: x(n), cy: y(point.value), r: 3.6 })));
  });
  return root;
}

/** Stacked bars: `columns` of `{name, parts: [numbers], hint}`; parts are coloured by their place. */
export function stacks(columns, { label, title, height = 190 }) {
  const marks = steps(Math.max(...columns.map((column) => column.parts.reduce((sum, part) => sum + part, 0)), 1));
  const { root, x, y, span } = frame(height, marks, label, columns.map((column) => column.name), title);
  const width = Math.min(34, span * 0.66);
  columns.forEach((column, n) => {
    let below = 0;
    const bars = column.parts.map((part, which) => {
      const bar = part > 0 ? svg("rect", { class: `part part-${which}`, x: x(n) - width / 2, width, y: y(below + part), height: Math.max(0, y(below) - y(below + part)), rx: 1.5 }) : null;
      below += part;
      return bar;
    });
    root.append(svg("g", {}, svg("title", {}, column.hint), bars));
  });
  return root;
}

/** A share with its interval, small, for a line of a table. */
export function interval({ value, low, high }, hint) {
  const at = (share) => 2 + 96 * Math.max(0, Math.min(1, share));
  return svg("svg", { viewBox: "0 0 100 12", class: "interval", role: "img", "aria-label": hint, preserveAspectRatio: "none" }, svg("title", {}, hint),
    svg("line", { class: "grid", x1: 2, x2: 98, y1: 6, y2: 6 }),
    low != null && high != null ? svg("rect", { class: "range", x: at(low), width: Math.max(1, at(high) - at(low)), y: 3.5, height: 5, rx: 2 }) : null,
    value != null ? svg("rect", { class: "value", x: at(value) - 1, width: 2, y: 1, height: 10, rx: 1 }) : null);
}

/** Horizontal bars of `[name, number]`. */
export function bars(rows, number) {
  const most = Math.max(1, ...rows.map(([, value]) => value));
  return el("ul", { class: "bars" }, rows.map(([name, value]) => el("li", {}, el("span", {}, name),
    svg("svg", { viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" }, svg("rect", { class: "bar-ground", width: 100, height: 8, rx: 2 }), svg("rect", { class: "bar", width: (100 * value) / most, height: 8, rx: 2 })),
    el("b", {}, number(value)))));
}
