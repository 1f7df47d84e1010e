// What all pages of the console share: who is signed in, the words, notices, and the feed of changes.
import { speaker } from "./say.js";
import { el } from "./dom.js";
import { EN } from "./words-en.js";
import { RU } from "./words-ru.js";

export const desk = {
  /** `GET /me`, or null. */
  me: null,
  say: null,
  /** Goes to a path of the console. */
  go: () => {},
};

function kept(name) {
  try { return localStorage.getItem(name); } catch { return null; }
}

export function speak(lang = kept("lang") ?? (navigator.language.startsWith("ru") ? "ru" : "en")) {
  // Dates and numbers as the browser's own kind of that language has them: en-GB and en-US differ.
  const own = navigator.language.startsWith(`${lang}-`) ? navigator.language : lang;
  desk.say = speaker({ en: EN, ru: RU }, lang, own);
  document.documentElement.lang = lang;
  try { localStorage.setItem("lang", lang); } catch { /* a browser without storage forgets the choice */ }
}

/** The words of a key. */
export const t = (key, values) => desk.say.t(key, values);

/** The words of `kind_value`, or the value itself where no word is known. */
export function term(kind, value) {
  if (value == null || value === "") return "";
  const key = `${kind}_${value}`;
  return desk.say.has(key) ? t(key) : String(value).replaceAll("_", " ");
}

/** Says something for a few seconds at the lower edge. */
export function notice(text, kind = "good") {
  const place = document.getElementById("notices");
  const node = el("p", { class: `notice ${kind}` }, text);
  place.append(node);
  setTimeout(() => node.remove(), kind === "bad" ? 8000 : 4000);
}

/** Runs an action; a refusal becomes a notice. Gives what the action gave, or undefined. */
export async function attempt(action) {
  try {
    return await action();
  } catch (error) {
    if (error.name !== "AbortError" && error.status !== 401) notice(error.status === 0 ? t("offline") : t("failed", { why: error.message }), "bad");
    return undefined;
  }
}

/** Follows the server's changes; `heard(change)` gets each, `state(up)` hears of losses and returns. */
export function hear(heard, state) {
  const source = new EventSource("/console/api/events");
  source.addEventListener("change", (event) => heard(JSON.parse(event.data)));
  source.addEventListener("open", () => state(true));
  source.addEventListener("error", () => state(false));
  return source;
}
