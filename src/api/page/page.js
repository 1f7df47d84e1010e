// The test-chat page: talks to /v1/chat/completions as any client would.
import { el } from "./dom.js";
import { show } from "./markdown.js";
import { events } from "./sse.js";
import { showWhy } from "./why.js";
import { WORDS } from "./words.js";

const $ = (id) => document.getElementById(id);
const kept = (name, fallback = "") => sessionStorage.getItem(name) ?? fallback;

let lang = localStorage.getItem("lang") ?? (navigator.language.startsWith("ru") ? "ru" : "en");
let words = WORDS[lang];
let about = { company: "", languages: ["en"], suggestions: {} };
let models = [];
let conversation = { id: null, messages: [] };
/** Ends the running request; null when none runs. */
let running = null;

function headers() {
  const key = kept("key");
  return key ? { Authorization: `Bearer ${key}` } : {};
}

// ---- words and controls ----

function applyWords() {
  words = WORDS[lang];
  document.documentElement.lang = lang;
  for (const node of document.querySelectorAll("[data-word]")) node.textContent = words[node.dataset.word];
  $("lang").textContent = lang === "en" ? "Русский" : "English";
  $("text").placeholder = words.placeholder;
  $("send").setAttribute("aria-label", running ? words.stop : words.send);
  showModels();
  showSuggestions();
  showFine();
}

function showModels() {
  const chosen = $("model").value || kept("model", "support");
  const option = (model, label) => el("option", { value: model.id, selected: model.id === chosen }, label);
  const of = (kind) => models.filter((model) => model.kind === kind);
  const group = (label, options) => (options.length ? [el("optgroup", { label }, options)] : []);
  $("model").replaceChildren(
    ...of("support").map((model) => option(model, words.auto)),
    ...group(words.operators, of("operator").map((model) => option(model, nameOf(model.id)))),
    ...group(words.models, of("chat").map((model) => option(model, `${model.id} (${words.bare})`))),
  );
}

function showSuggestions() {
  const list = about.suggestions?.[lang] ?? about.suggestions?.[about.languages?.[0]] ?? [];
  $("suggestions").replaceChildren(...list.map((question) =>
    el("button", { type: "button", onclick: () => send(question) }, question)));
}

function showFine(problem) {
  const id = conversation.id ? ` · ${words.conversation} ${conversation.id.slice(0, 8)}` : "";
  $("fine").textContent = problem ?? `${words.local}${id}`;
  $("fine").classList.toggle("problem", Boolean(problem));
}

// ---- the thread ----

function bubble(role, name) {
  const text = el("div", { class: "md" });
  const node = el("article", { class: `message ${role}` },
    role === "assistant" ? el("div", { class: "who" }, el("span", { class: "avatar" }, name.slice(0, 1).toUpperCase()), el("span", { class: "by" }, name)) : null,
    text);
  $("welcome").hidden = true;
  $("thread").append(node);
  return { node, text };
}

function toEnd(force) {
  const thread = $("thread");
  if (force || thread.scrollHeight - thread.scrollTop - thread.clientHeight < 400) thread.scrollTop = thread.scrollHeight;
}

function showProblem(message) {
  $("thread").append(el("article", { class: "message problem" }, message));
  toEnd(true);
}

function nameOf(model) {
  const found = models.find((entry) => entry.id === model);
  if (found?.kind === "operator") return found.display_name[lang] ?? Object.values(found.display_name)[0] ?? found.id;
  return found?.kind === "chat" ? found.id : "Firstline";
}

function handoffCard(handoff) {
  return el("div", { class: "handed" }, el("strong", {}, words.handedOver),
    el("dl", {}, el("dt", {}, words.queue), el("dd", {}, handoff.queue), el("dt", {}, words.summary), el("dd", {}, handoff.summary)),
    el("div", { class: "tags" }, (handoff.tags ?? []).map((tag) => el("span", { class: "tag" }, tag))));
}

/** What stands under an answer: action, sources, handoff, "why". */
function showOutcome(node, support, usage, seconds) {
  node.querySelector(".by").textContent = nameOf(support.operator);
  node.querySelector(".avatar").textContent = nameOf(support.operator).slice(0, 1).toUpperCase();
  if (support.handoff) node.append(handoffCard(support.handoff));
  if (support.sources?.length) {
    const chips = support.sources.map((source, n) => el("a", {
      href: source.url, target: "_blank", rel: "noopener noreferrer", title: source.id,
    }, el("span", {}, String(n + 1)), el("b", {}, source.title || source.id)));
    node.append(el("div", { class: "sources", "aria-label": words.sources }, chips));
  }
  const why = el("button", { type: "button", class: "why-button" }, words.whyButton);
  why.addEventListener("click", () => {
    document.querySelectorAll(".message.open").forEach((open) => open.classList.remove("open"));
    node.classList.add("open");
    showWhy($("why-body"), support, usage, words);
    $("why").hidden = false;
  });
  node.append(el("footer", {},
    el("span", { class: `badge ${support.action}` }, words.action[support.action] ?? support.action),
    el("span", { class: "kind" }, support.kind), el("span", { class: "kind" }, `${seconds.toFixed(1)} s`), why));
  if (!$("why").hidden) why.click();
}

// ---- talking ----

function request(model, text) {
  const isBare = models.find((entry) => entry.id === model)?.kind === "chat";
  const body = { model, stream: true, stream_options: { include_usage: true } };
  if (isBare) return { ...body, messages: [...conversation.messages, { role: "user", content: text }] };
  const metadata = { trace: "true" };
  if (conversation.id) metadata.conversation_id = conversation.id;
  if (kept("channel")) metadata.channel = kept("channel");
  if (kept("audience")) metadata.audience = kept("audience");
  return { ...body, metadata, messages: [{ role: "user", content: text }] };
}

async function send(text) {
  if (running || !text.trim()) return;
  const model = $("model").value || "support";
  show(bubble("user", words.you).text, text, words);
  const { node, text: place } = bubble("assistant", nameOf(model));
  node.classList.add("busy");
  toEnd(true);
  const started = performance.now();
  running = new AbortController();
  document.body.classList.add("running");
  let answer = "", support = null, usage = null;
  try {
    const response = await fetch("/v1/chat/completions", {
      method: "POST", signal: running.signal,
      headers: { "Content-Type": "application/json", ...headers() }, body: JSON.stringify(request(model, text)),
    });
    if (!response.ok) throw new Error((await response.json()).error.message);
    conversation.id = response.headers.get("x-conversation-id") ?? conversation.id;
    for await (const { data } of events(response)) {
      if (data === "[DONE]") break;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Error(chunk.error.message);
      usage = chunk.usage ?? usage;
      support = chunk.support ?? support;
      const more = chunk.choices?.[0]?.delta?.content;
      if (more) { answer += more; show(place, answer, words); toEnd(); }
    }
    conversation.messages.push({ role: "user", content: text }, { role: "assistant", content: answer });
    node.classList.remove("busy");
    if (support) showOutcome(node, support, usage, (performance.now() - started) / 1000);
  } catch (error) {
    if (!answer) node.remove();
    if (error.name === "AbortError") node.append(el("footer", {}, el("span", { class: "kind" }, words.stopped)));
    else showProblem(error.message);
  } finally {
    node.classList.remove("busy");
    running = null;
    document.body.classList.remove("running");
    showFine();
    toEnd();
    $("text").focus();
  }
}

function fresh() {
  running?.abort();
  conversation = { id: null, messages: [] };
  $("thread").replaceChildren($("welcome"));
  $("welcome").hidden = false;
  $("why").hidden = true;
  showFine();
  $("text").focus();
}

// ---- start ----

async function start() {
  try {
    const response = await fetch("/v1/models", { headers: headers() });
    if (response.status === 503) { showFine(words.loading); setTimeout(start, 1500); return; }
    if (response.status === 401) { showFine(words.needKey); $("settings").showModal(); return; }
    models = (await response.json()).data;
    about = await (await fetch("/page/about")).json();
    $("company").textContent = about.company;
    document.title = `${about.company} · Firstline`;
    applyWords();
  } catch {
    showFine(words.offline);
    setTimeout(start, 3000);
  }
}

const box = $("text");
const grow = () => { box.rows = Math.min(8, Math.max(1, box.value.split("\n").length)); };
box.addEventListener("input", grow);
box.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); $("composer").requestSubmit(); }
});
$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) { running.abort(); return; }
  const text = box.value;
  box.value = "";
  grow();
  send(text);
});
$("lang").addEventListener("click", () => { lang = lang === "en" ? "ru" : "en"; localStorage.setItem("lang", lang); applyWords(); });
$("model").addEventListener("change", () => { sessionStorage.setItem("model", $("model").value); fresh(); });
$("fresh").addEventListener("click", fresh);
$("why-close").addEventListener("click", () => { $("why").hidden = true; document.querySelectorAll(".message.open").forEach((open) => open.classList.remove("open")); });
$("settings-open").addEventListener("click", () => $("settings").showModal());
for (const name of ["key", "channel", "audience"]) $(name).value = kept(name);
$("settings").addEventListener("close", () => {
  for (const name of ["key", "channel", "audience"]) sessionStorage.setItem(name, $(name).value.trim());
  start();
});

applyWords();
start();
