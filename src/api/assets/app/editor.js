// Writing an entry of the FAQ or an article, with a preview as customers will see it.
import { el } from "./dom.js";
import { showHtml } from "./safe-html.js";
import { post, put, query } from "./api.js";
import { attempt, desk, notice, t } from "./desk.js";
import { sendsWith } from "./keys.js";

/** A choice of language. */
export function languageField(value) {
  return el("select", { "aria-label": t("langField") }, ["en", "ru"].map((lang) => el("option", { value: lang, selected: lang === value }, lang)));
}

/** Shows in `place` what Markdown becomes, a moment after the last key. `path`: of the article, whose images are meant. */
export function previewOf(field, place, path = "") {
  let timer = null, asked = 0;
  const refresh = async () => {
    const mine = ++asked;
    const got = await attempt(() => post("/knowledge/preview", { markdown: field.value, path }));
    if (got && mine === asked) showHtml(place, got.html ?? "", { copy: t("copy"), copied: t("copied") });
  };
  field.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(refresh, 250); });
  refresh();
}

/** Edits `item` (null: a new entry of the FAQ) in `pane`. */
export function editor(pane, item, { cancel, saved }) {
  const isArticle = item?.markdown != null && item.question == null;
  const question = el("input", { value: item?.question ?? "", required: true, maxlength: 500 });
  const body = el("textarea", { rows: 14, required: true, maxlength: 100000, spellcheck: "true", class: "mono" });
  body.value = isArticle ? item.markdown : item?.answer ?? "";
  const lang = languageField(item?.lang ?? desk.say.lang);
  const tags = el("input", { maxlength: 200 });
  const preview = el("div", { class: "md" });
  const form = el("form", { class: "stack editor", onsubmit: async (event) => {
    event.preventDefault();
    try {
      const got = item
        ? await put(`/knowledge/item${query({ id: item.id })}`, isArticle ? { markdown: body.value, version: item.version } : { question: question.value, answer: body.value, version: item.version })
        : await post("/knowledge/faq", { question: question.value, answer: body.value, lang: lang.value, tags: tags.value.split(/[,\s]+/).filter(Boolean) });
      saved(got);
    } catch (error) {
      notice(error.status === 409 ? t("stale") : t("failed", { why: error.message }), "bad");
    }
  } },
  isArticle ? null : el("label", {}, t("question"), question, el("small", {}, t("questionsHint"))),
  el("div", { class: "two" }, el("label", {}, isArticle ? t("text") : `${t("answer")} (Markdown)`, body),
    el("div", {}, el("span", { class: "label" }, t("preview")), el("div", { class: "preview" }, preview))),
  item ? null : el("div", { class: "row" }, el("label", {}, t("langField"), lang), el("label", { class: "grow" }, t("tagsField"), tags)),
  el("div", { class: "row end" }, el("button", { type: "button", class: "button", onclick: cancel }, t("cancel")), el("button", { class: "button main" }, t("save"))));
  sendsWith(body, () => form.requestSubmit());
  pane.replaceChildren(el("header", { class: "talk-head" }, el("h2", {}, item ? item.title : t("newFaq"))), el("div", { class: "scroll sheet-body" }, form));
  previewOf(body, preview, isArticle ? item.path : "");
  (isArticle ? body : question).focus();
}
