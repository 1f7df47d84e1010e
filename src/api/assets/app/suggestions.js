// Suggestions: questions that the knowledge could not answer, with a draft that one click accepts.
import { el } from "./dom.js";
import { icon } from "./icons.js";
import { get, post } from "./api.js";
import { attempt, desk, notice, t, term } from "./desk.js";
import { plain } from "./inbox.js";
import { languageField, previewOf } from "./editor.js";

/** Fills the list and, for the chosen one, the pane. */
export function showSuggestions(list, pane, { open, counted }) {
  let items = [], chosen = null;

  function draw() {
    counted(items.length);
    list.replaceChildren(...items.map((item) => el("li", {}, el("button", { type: "button", class: `entry${item.id === chosen ? " chosen" : ""}`, onclick: () => choose(item) },
      el("span", { class: "line" }, el("strong", {}, item.question), el("b", { class: "count" }, item.count)),
      el("span", { class: "last" }, plain(item.draft?.answer) || t("noDraft")),
      el("span", { class: "chips" }, el("span", { class: `chip why-${item.reason}` }, term("reason", item.reason)), el("span", { class: "faint" }, desk.say.when(item.since_ms)), el("span", { class: "faint" }, item.draft?.lang ?? ""))))));
    if (!items.length) list.replaceChildren(el("li", { class: "nothing" }, el("strong", {}, t("emptySuggestions")), el("span", {}, t("emptySuggestionsHint"))));
  }

  async function load() {
    const got = await attempt(() => get("/suggestions"));
    if (!got) return;
    ({ items } = got);
    draw();
  }

  async function settle(item, what, body) {
    if (!await attempt(() => post(`/suggestions/${encodeURIComponent(item.id)}/${what}`, body))) return;
    notice(t(what === "accept" ? "accepted" : "dismissed"));
    items = items.filter((one) => one.id !== item.id);
    chosen = null;
    draw();
    if (items.length && matchMedia("(min-width: 900px)").matches) choose(items[0]);
    else { open(false); pane.replaceChildren(el("div", { class: "nothing tall" }, icon("check", 34), el("strong", {}, t(items.length ? "pickItem" : "emptySuggestions")))); }
  }

  function choose(item) {
    chosen = item.id;
    draw();
    open(true);
    const question = el("input", { value: item.draft?.question ?? item.question, required: true, maxlength: 500 });
    const answer = el("textarea", { rows: 9, required: true, maxlength: 20000, class: "mono" });
    answer.value = item.draft?.answer ?? "";
    const lang = languageField(item.draft?.lang ?? desk.say.lang);
    const preview = el("div", { class: "md" });
    const found = el("div", { class: "found" });
    const form = el("form", { class: "stack editor", onsubmit: (event) => { event.preventDefault(); settle(item, "accept", { question: question.value, answer: answer.value, lang: lang.value }); } },
      el("h3", {}, t("draft")),
      el("label", {}, t("question"), question, el("small", {}, t("questionsHint"))),
      el("div", { class: "two" }, el("label", {}, `${t("answer")} (Markdown)`, answer), el("div", {}, el("span", { class: "label" }, t("preview")), el("div", { class: "preview" }, preview))),
      el("div", { class: "row" }, el("label", {}, t("langField"), lang), el("span", { class: "grow" }),
        el("button", { type: "button", class: "button", onclick: () => settle(item, "dismiss", {}) }, t("dismiss")),
        el("button", { class: "button main" }, icon("check", 16), t("accept"))));
    pane.replaceChildren(el("header", { class: "talk-head" },
      el("button", { type: "button", class: "plain back", "aria-label": t("back"), onclick: () => open(false) }, icon("back")),
      el("div", { class: "talk-name" }, el("h2", {}, item.question), el("span", { class: `chip why-${item.reason}` }, term("reason", item.reason)), el("span", { class: "faint" }, t("asked", { n: item.count })))),
    el("div", { class: "scroll sheet-body" }, form,
      item.examples?.length ? el("section", { class: "examples" }, el("h3", {}, t("askedAs")), el("ul", {}, item.examples.map((one) => el("li", {}, el("a", { href: `/console/inbox/closed/${encodeURIComponent(one.conversation_id)}` }, one.text))))) : null, found));
    previewOf(answer, preview);
    post("/knowledge/try", { question: item.question }).then((got) => showFound(found, got), () => {});
  }

  load();
  return { load };
}

/** What retrieval finds now for the question. */
function showFound(place, got) {
  const passages = got.items ?? [];
  place.replaceChildren(el("h3", {}, t("tryIt")), passages.length
    ? el("ul", { class: "sources" }, passages.slice(0, 6).map((one) => el("li", {}, el("span", { class: "source", title: one.id }, el("span", {}, one.title || one.id),
      el("span", { class: "score" }, (one.fit ?? one.score ?? 0).toFixed(2))))))
    : el("p", { class: "soft" }, t("tryNothing")));
}
