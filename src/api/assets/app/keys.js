// Keys: one listener; the page that is open says what its keys do.
import { el } from "./dom.js";
import { desk, t } from "./desk.js";

const PAGES = { i: "/console/inbox", a: "/console/ask", k: "/console/knowledge", f: "/console/figures", p: "/console/people" };
let own = {};
let went = 0;

/** The open page's keys: `{j: () => …}`. */
export function keys(map) {
  own = map;
}

/** Whether what is typed goes into this element. */
export function isWriting(target) {
  return target.closest?.("input, textarea, select, [contenteditable]") != null;
}

export function listenToKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.key === "Escape") {
      if (isWriting(event.target)) event.target.blur();
      else own.Escape?.();
      return;
    }
    if (isWriting(event.target) || document.querySelector("dialog[open]")) return;
    // The Latin letter of the key, so that a Russian layout works too.
    const letter = /^Key[A-Z]$/.test(event.code) ? event.code.slice(3).toLowerCase() : event.key;
    if (Date.now() - went < 1200 && PAGES[letter]) {
      went = 0;
      event.preventDefault();
      desk.go(PAGES[letter]);
    } else if (letter === "g") {
      went = Date.now();
    } else if (event.key === "?" || (event.code === "Digit7" && event.shiftKey && event.key === "?")) {
      help();
    } else {
      const act = own[letter] ?? (event.code === "Slash" ? own["/"] : undefined);
      if (act && !(letter === "Enter" && event.target.closest("button, a"))) { event.preventDefault(); act(); }
    }
  });
}

export function help() {
  const rows = [["j  k", "key_list"], ["Enter", "key_open"], ["r", "key_reply"], ["t", "key_take"], ["n", "key_note"], ["/", "key_search"],
    ["Ctrl+Enter", "key_send"], ["Esc", "key_back"], ["g  i a k f p", "key_goto"], ["?", "key_help"]];
  const dialog = el("dialog", { class: "sheet", "aria-labelledby": "keys-title" },
    el("h2", { id: "keys-title" }, t("keysTitle")),
    el("dl", { class: "keys" }, rows.map(([key, word]) => [
      el("dt", {}, key.split(/\s+/).map((one) => el("kbd", {}, one))), el("dd", {}, t(word))])),
    el("form", { method: "dialog" }, el("button", { class: "button" }, t("close"))));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

/** Ctrl+Enter (or Cmd+Enter) in a text field runs `send`. */
export function sendsWith(field, send) {
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); send(); }
  });
}
