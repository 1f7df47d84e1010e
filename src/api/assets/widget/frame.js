// The chat window: what is said, who says it, and what is still on its way.
import { el } from "./dom.js";
import { icon } from "./icons.js";
import { Thread } from "./frame-thread.js";
import { newId } from "./ids.js";
import { Visitor } from "./visitor.js";
import { WORDS } from "./frame-words.js";

const wishes = new URLSearchParams(location.search);
const lang = (wishes.get("language") || navigator.language).startsWith("ru") ? "ru" : "en";
const words = WORDS[lang];
const $ = (id) => document.getElementById(id);
const visitor = new Visitor({ operator: wishes.get("operator"), language: lang });
const thread = new Thread($("thread"), words, lang);
const ending = new AbortController();
let owner = { owner: "bot", person: null };
let botName = null, opened = parent === window, unread = 0, sending = false, online = true, lastSeq = null;

// ---- who is speaking ----

function showOwner(told) {
  owner = { owner: told.owner ?? "bot", person: told.person ?? null };
  const name = { person: owner.person?.name ?? words.support, waiting: words.support }[owner.owner] ?? botName ?? words.assistant;
  $("speaker").textContent = name;
  $("speaker-kind").textContent = { waiting: words.waiting, person: words.personKind }[owner.owner] ?? (botName ? words.assistant : "");
  $("face").replaceChildren(owner.owner === "person" ? [...name][0].toUpperCase() : icon(owner.owner === "waiting" ? "clock" : "chat", 18));
  document.body.dataset.owner = owner.owner;
  $("person").hidden = withPeople();
}

/** A closed conversation goes on with the assistant, as soon as the visitor writes. */
function withPeople() {
  return owner.owner === "waiting" || owner.owner === "person";
}

/** An operator's name in the visitor's language. */
function nameOf(operator) {
  return visitor.assistants[operator]?.[lang] ?? operator.charAt(0).toUpperCase() + operator.slice(1);
}

function showState(text) {
  $("state").textContent = text ?? "";
  $("state").hidden = !text;
}

/** Tells the website's page; nothing here is secret, so any page may hear it. */
function tell(firstline, more = {}) {
  if (parent !== window) parent.postMessage({ firstline, ...more }, "*");
}

function count() {
  if (opened) return;
  unread += 1;
  tell("unread", { count: unread });
}

// ---- sending ----

function write(text) {
  const message = { id: newId(), text, at_ms: Date.now() };
  visitor.put(message);
  thread.mine(message.id, text, message.at_ms, words.sending);
  thread.toEnd(true);
  tell("talking");
  flush();
}

/** Sends what waits in the outbox, one after the other. A message leaves the outbox when the server has answered it. */
async function flush() {
  if (sending) return;
  sending = true;
  let pause = 1000;
  for (let next = visitor.outbox()[0]; next && !ending.signal.aborted; next = visitor.outbox()[0]) {
    try {
      await answerTo(next);
      visitor.taken(next.id);
      thread.note(next.id, "");
      pause = 1000;
    } catch (error) {
      thread.dropAnswer();
      if (error.status >= 400 && error.status < 500 && error.status !== 429 && error.status !== 408 && error.status !== 401) {
        // It will never be taken: say so, and keep the words where they can be copied from.
        visitor.taken(next.id);
        thread.note(next.id, words.failed.replace("{why}", error.message), true);
        continue;
      }
      thread.note(next.id, words.sending);
      if (error.status === 429) showState(error.afterMs > 5000 ? words.tooFast : words.busy);
      await new Promise((go) => setTimeout(go, error.afterMs ?? pause));
      if (error.status === 429) showState(online ? null : words.offline);
      pause = Math.min(pause * 2, 15_000);
    }
  }
  sending = false;
}

async function answerTo({ id, text }) {
  const answer = thread.answer(botName ?? words.assistant);
  let support = null, finished = false;
  if (!withPeople()) answer.wait(words.typing);
  for await (const { data } of visitor.send(id, text)) {
    if (data === "[DONE]") { finished = true; break; }
    const chunk = JSON.parse(data);
    if (chunk.error) throw Object.assign(new Error(chunk.error.message), { status: chunk.error.code === "queue_full" ? 429 : 500 });
    if (chunk.accepted) { finished = true; continue; }
    thread.note(id, "");
    support = chunk.support ?? support;
    if (support) finished = true;
    const more = chunk.choices?.[0]?.delta?.content;
    if (more) { answer.add(more); thread.toEnd(); }
  }
  if (!finished) throw Object.assign(new Error("cut"), { status: 0 });
  if (support?.operator) botName = nameOf(support.operator);
  if (!withPeople()) showOwner({ owner: "bot" });
  answer.end(support?.message_id ?? null, botName ?? words.assistant);
  if (support?.action === "handoff") showOwner({ owner: "waiting" });
  if (support?.action === "answer" && !support.repeated && !withPeople()) askWhetherItHelped(answer.node);
  thread.toEnd();
}

function askWhetherItHelped(node) {
  document.querySelectorAll(".helped").forEach((old) => old.remove());
  const place = el("div", { class: "helped" }, el("span", {}, words.helped));
  const say = (solved) => async () => {
    place.replaceChildren(el("span", {}, solved ? words.thanks : words.sorry));
    try { await visitor.post("solved", { solved }); } catch { /* a lost "yes" costs a figure, not the customer */ }
  };
  place.append(el("button", { type: "button", onclick: say(true) }, words.yes), el("button", { type: "button", onclick: say(false) }, words.no));
  node.append(place);
}

// ---- what comes from the server ----

function heard({ event, data, id }) {
  if (id) lastSeq = id;
  const told = JSON.parse(data);
  if (event === "owner") {
    showOwner(told);
  } else if (event === "message" && thread.take(told, botName ?? words.assistant)) {
    if (told.from !== "customer") count();
    thread.toEnd();
  }
}

async function catchUp() {
  const told = await visitor.history();
  showOwner(told);
  for (const message of told.messages ?? []) {
    if (message.from === "customer") visitor.taken(message.id);
    thread.take(message, botName ?? words.assistant);
  }
  lastSeq = told.seq ?? lastSeq;
  if (told.messages?.length) tell("talking");
  thread.toEnd(true);
}

async function start() {
  for (let pause = 500; ; pause = Math.min(pause * 2, 15_000)) {
    try {
      await catchUp();
      break;
    } catch (error) {
      showState(error.status === 429 ? words.busy : words.offline);
      await new Promise((go) => setTimeout(go, error.afterMs ?? pause));
    }
  }
  showState(null);
  for (const message of visitor.outbox()) thread.mine(message.id, message.text, message.at_ms, words.sending);
  flush();
  visitor.follow(() => lastSeq, heard, async (up) => {
    const back = up && !online;
    online = up;
    showState(up ? null : words.offline);
    if (back) { try { await catchUp(); } catch { /* the feed will tell again */ } }
  }, ending.signal);
}

// ---- the page ----

document.documentElement.lang = lang;
document.title = words.title;
const color = wishes.get("color") ?? "";
if (/^#[0-9a-f]{6}$/i.test(color)) {
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  document.documentElement.style.setProperty("--head", color);
  document.documentElement.style.setProperty("--head-ink", 0.299 * r + 0.587 * g + 0.114 * b > 150 ? "#10201d" : "#ffffff");
}
$("close").append(icon("close", 18));
$("close").setAttribute("aria-label", words.close);
$("close").hidden = parent === window;
$("send").append(icon("send", 20));
$("send").setAttribute("aria-label", words.send);
$("person").textContent = words.askPerson;
$("thread").setAttribute("aria-label", words.title);
const box = $("text");
box.placeholder = words.placeholder;
box.setAttribute("aria-label", words.placeholder);
const grow = () => { box.rows = Math.min(6, Math.max(1, box.value.split("\n").length, Math.ceil(box.scrollHeight > box.clientHeight + 4 ? box.rows + 1 : 1))); };
box.addEventListener("input", grow);
box.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); $("composer").requestSubmit(); }
});
$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = box.value.trim();
  if (!text) return;
  box.value = "";
  grow();
  write(text);
});
// From here on what is typed is sent; before, it would have been lost.
box.disabled = false;
$("person").addEventListener("click", () => { write(words.personWish); box.focus(); });
$("close").addEventListener("click", () => tell("close"));
document.addEventListener("keydown", (event) => { if (event.key === "Escape") tell("close"); });
window.addEventListener("message", (event) => {
  if (event.source !== parent) return;
  if (event.data?.firstline === "opened") { opened = true; unread = 0; box.focus(); thread.toEnd(true); }
  if (event.data?.firstline === "closed") opened = false;
});
window.addEventListener("pagehide", () => ending.abort());
showOwner(owner);
thread.hello(words.hello, words.assistant);
tell("ready");
if (opened) box.focus();
start();
