// Ask the bot: the staff's own reference over the same knowledge. Nothing here is recorded.
import { copyButton, el } from "./dom.js";
import { icon } from "./icons.js";
import { show } from "./markdown.js";
import { events } from "./sse.js";
import { request } from "./api.js";
import { desk, t, term } from "./desk.js";
import { keys } from "./keys.js";
import { sourceList } from "./message.js";

/** Kept while the console is open, so that a look at another page loses nothing. */
let turns = [];

export function showAsk(place) {
  let running = null;
  const thread = el("div", { class: "thread", role: "log", "aria-live": "polite", tabindex: "0", "aria-label": t("ask") });
  const text = el("textarea", { rows: 1, maxlength: 8000, placeholder: t("askHint"), "aria-label": t("question") });
  const go = el("button", { type: "submit", class: "round", "aria-label": t("send") }, icon("send", 20));
  const form = el("form", { class: "ask-box", onsubmit: (event) => { event.preventDefault(); if (running) running.abort(); else ask(); } }, text, go);
  place.append(thread, el("div", { class: "ask-foot" }, form));

  const words = () => ({ copy: t("copy"), copied: t("copied") });

  function welcome() {
    thread.replaceChildren(el("div", { class: "nothing tall" }, icon("ask", 34), el("strong", {}, t("askTitle")), el("span", {}, t("askText"))));
  }

  /** Adds a question and an empty answer; gives what fills the answer. */
  function entry(turn) {
    const body = el("div", { class: "md" });
    const foot = el("div", { class: "asked-foot" });
    const node = el("article", { class: "asked" }, el("h2", {}, turn.question), body, foot);
    thread.append(node);
    return {
      node,
      text: (markdown) => show(body, markdown, words()),
      end: () => {
        const { support } = turn;
        foot.replaceChildren(...[sourceList(support?.sources), el("div", { class: "row" },
          support ? el("span", { class: `badge ${support.action}`, title: support.reason ?? "" }, term("action", support.action)) : null,
          support?.confidence != null ? el("span", { class: "faint" }, `${t("confidence")} ${desk.say.percent(support.confidence)}`) : null,
          el("span", { class: "faint grow" }, turn.ms ? desk.say.quick(turn.ms, desk.say.span) : ""),
          turn.answer ? copyButton(() => turn.answer, { copy: t("copyAnswer"), copied: t("copied") }, "plain") : null)].filter(Boolean));
      },
    };
  }

  function drawAll() {
    if (!turns.length) { welcome(); return; }
    thread.replaceChildren(el("div", { class: "row end" }, el("button", { type: "button", class: "button", onclick: () => { turns = []; welcome(); text.focus(); } }, t("askFresh"))));
    for (const turn of turns) { const drawn = entry(turn); drawn.text(turn.answer); drawn.end(); }
    thread.scrollTop = thread.scrollHeight;
  }

  async function ask() {
    const question = text.value.trim();
    if (!question) return;
    text.value = "";
    if (!turns.length) { thread.replaceChildren(); }
    const history = turns.slice(-6).flatMap((turn) => [{ role: "user", content: turn.question }, { role: "assistant", content: turn.answer }]).filter((one) => one.content);
    const turn = { question, answer: "", support: null, ms: 0 };
    const drawn = entry(turn);
    drawn.node.classList.add("busy");
    thread.scrollTop = thread.scrollHeight;
    const started = performance.now();
    running = new AbortController();
    go.classList.add("running");
    go.setAttribute("aria-label", t("stop"));
    try {
      const response = await request("POST", "/ask", { question, history, stream: true }, running.signal);
      for await (const { data } of events(response)) {
        if (data === "[DONE]") break;
        const chunk = JSON.parse(data);
        if (chunk.error) throw new Error(chunk.error.message);
        turn.support = chunk.support ?? turn.support;
        const more = chunk.choices?.[0]?.delta?.content;
        if (more) { turn.answer += more; drawn.text(turn.answer); thread.scrollTop = thread.scrollHeight; }
      }
    } catch (error) {
      if (error.name !== "AbortError") drawn.node.append(el("p", { class: "problem" }, error.status === 0 ? t("offline") : t("failed", { why: error.message })));
    }
    turn.ms = performance.now() - started;
    turns.push(turn);
    running = null;
    drawn.node.classList.remove("busy");
    go.classList.remove("running");
    go.setAttribute("aria-label", t("send"));
    drawn.end();
    thread.scrollTop = thread.scrollHeight;
  }

  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); if (!running) ask(); }
  });
  text.addEventListener("input", () => { text.rows = Math.min(8, Math.max(1, text.value.split("\n").length)); });
  keys({ "/": () => text.focus(), r: () => text.focus() });
  drawAll();
  text.focus();
  return { leave() { running?.abort(); } };
}
