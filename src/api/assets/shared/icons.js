// Line icons, drawn from their paths.
import { svg } from "./dom.js";

const PATHS = {
  inbox: "M3 13h5l1.5 3h5L16 13h5M5.5 5h13L21 13v6H3v-6z",
  ask: "M4 5h16v11H9l-5 4zM9 9.5h6M9 12.5h4",
  knowledge: "M4 5c3-1.4 5.5-1 8 .6V20c-2.5-1.6-5-2-8-.6zM20 5c-3-1.4-5.5-1-8 .6V20c2.5-1.6 5-2 8-.6z",
  figures: "M4 4v16h16M8 16v-4M12.5 16V8M17 16v-6",
  people: "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM2.5 20c.6-4 3-6 6.5-6s5.9 2 6.5 6M16 4.5a3.2 3.2 0 0 1 0 6M17.5 14.3c2.2.7 3.5 2.6 4 5.7",
  search: "M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13zM15.5 15.5 20 20",
  send: "M5 12h13M12 5l7 7-7 7",
  back: "M15 5l-7 7 7 7",
  close: "M6 6l12 12M18 6 6 18",
  plus: "M12 5v14M5 12h14",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  check: "M5 12.5 10 17 19 7",
  wrong: "M12 8v5M12 16.5v.01M12 3.5 21.5 20h-19z",
  note: "M5 4h14v11l-5 5H5zM19 15h-5v5M8.5 9h7M8.5 12.5h4",
  download: "M12 4v11M7 11l5 5 5-5M4 20h16",
  chat: "M4 5h16v11H10l-6 4z",
  person: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4.5 20.5c.7-4.3 3.4-6.5 7.5-6.5s6.8 2.2 7.5 6.5",
  clock: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM12 7.5V12l3 2",
};

/** The icon of this name, hidden from screen readers. */
export function icon(name, size = 18) {
  return svg("svg", { viewBox: "0 0 24 24", width: size, height: size, class: "icon", "aria-hidden": "true" },
    svg("path", { d: PATHS[name] }));
}
