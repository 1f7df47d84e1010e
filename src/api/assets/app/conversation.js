// One conversation: its messages, what was handed over, and what a person does with it.
import { el } from "./dom.js";
import { icon } from "./icons.js";
import { get, post } from "./api.js";
import { newId } from "./ids.js";
import { attempt, desk, t, term } from "./desk.js";
import { isWriting, sendsWith } from "./keys.js";
import { message } from "./message.js";
import { aside } from "./handed-over.js";
import { nameOf, waitingChip } from "./inbox.js";

/** Whether the one who is signed in has this conversation. */
function isMine(item) {
  return item.owner === "person" && item.person?.id === desk.me.id;
}

/** Opens a conversation in `pane`. `back()` closes it on small screens, `changed()` says that the list is old. */
export function openConversation(pane, id, { back, changed }) {
  const path = `/conversations/${encodeURIComponent(id)}`;
  let item = null, writing = "reply", gone = false, busy = false, atEnd = true, reply = { words: "", id: null }, headSays = "", loads = 0, shown = 0;
  const head = el("header", { class: "talk-head" });
  const thread = el("div", { class: "thread", role: "log", "aria-live": "polite", "aria-label": t("facts"), tabindex: "0" });
  const side = el("aside", { class: "side", "aria-label": t("handedOver") });
  const text = el("textarea", { rows: 2, maxlength: 20000 });
  const go = el("button", { type: "submit", class: "button main" });
  const hint = el("span", { class: "soft" });
  const kinds = el("div", { class: "tabs small", role: "tablist" }, ["reply", "note"].map((kind) =>
    el("button", { type: "button", role: "tab", "data-kind": kind, onclick: () => { write(kind); } }, t(kind))));
  const composer = el("form", { class: "composer", onsubmit: (event) => { event.preventDefault(); send(); } },
    kinds, text, el("div", { class: "row" }, hint, go));
  const talk = el("div", { class: "talk" }, head, el("div", { class: "talk-body" }, thread, composer));
  pane.replaceChildren(talk);
  // Beside the messages where there is room, else between the name and the messages.
  const wide = matchMedia("(min-width: 1200px)");
  const settle = () => (wide.matches ? pane.append(side) : head.after(side));
  settle();
  wide.addEventListener("change", settle);
  // Images come later than their messages; who reads the end stays at the end.
  thread.addEventListener("load", () => { if (atEnd) thread.scrollTop = thread.scrollHeight; }, true);
  thread.addEventListener("scroll", () => { atEnd = thread.scrollHeight - thread.scrollTop - thread.clientHeight < 80; });
  sendsWith(text, () => send());
  // What was typed outlives a look at another conversation.
  text.value = sessionStorage.getItem(`draft:${id}`) ?? "";
  text.addEventListener("input", () => { sessionStorage.setItem(`draft:${id}`, text.value); grow(); });

  function grow() {
    text.rows = Math.min(10, Math.max(2, text.value.split("\n").length));
  }

  function act(label, kind, run) {
    return el("button", { type: "button", class: `button ${kind}`, onclick: run }, label);
  }

  function drawHead() {
    const mine = isMine(item);
    // Drawn again only when it says something else: a menu that is open, or a button with the focus, outlives a new message.
    const since = item.owner === "waiting" ? item.waiting_since_ms ?? item.updated_ms : null;
    const says = JSON.stringify([mine, item.owner, item.person, since, item.closed_as, nameOf(item), item.channel]);
    if (says === headSays) return;
    headSays = says;
    const menuOpen = head.querySelector(".menu")?.open ?? false;
    const status = item.owner === "waiting" ? waitingChip(since)
      : el("span", { class: `chip owner-${item.owner}` }, mine ? t("withYou") : item.owner === "person" ? t("withWhom", { name: item.person?.name ?? "" })
        : item.owner === "closed" && item.closed_as ? t("closedAs", { how: term("close", item.closed_as) }) : t(`owner_${item.owner}`));
    const close = el("details", { class: "menu", open: menuOpen }, el("summary", { class: "button" }, t("closeAs")),
      el("div", { class: "menu-list", role: "menu" }, ["solved", "unsolved", "spam"].map((as) => el("button", { type: "button", role: "menuitem", onclick: () => { close.open = false; change("close", { as }); } }, t(`close_${as}`)))));
    const takeable = item.owner !== "person" || (!mine && desk.me.role === "lead");
    head.replaceChildren(
      el("button", { type: "button", class: "plain back", "aria-label": t("back"), onclick: back }, icon("back")),
      el("div", { class: "talk-name" }, el("h2", {}, nameOf(item)), status, item.channel ? el("span", { class: "faint" }, item.channel) : null),
      el("div", { class: "row" },
        takeable ? act(t(item.owner === "closed" ? "reopenTake" : "take"), item.owner === "waiting" ? "main" : "", take) : null,
        mine ? act(t("giveBack"), "", () => change("give-back")) : null,
        item.owner !== "closed" ? close : null));
  }

  function drawThread() {
    const rows = [];
    let day = null;
    for (const one of item.messages ?? []) {
      const today = desk.say.day(one.at_ms);
      if (today !== day) { rows.push(el("p", { class: "day" }, today)); day = today; }
      rows.push(message(one, { name: nameOf(item), changed: load }));
    }
    thread.replaceChildren(...rows);
    if (atEnd) thread.scrollTop = thread.scrollHeight;
  }

  function drawComposer() {
    const held = item.owner === "person" && !isMine(item);
    for (const tab of kinds.children) {
      tab.setAttribute("aria-selected", tab.dataset.kind === writing);
      tab.classList.toggle("chosen", tab.dataset.kind === writing);
    }
    const isNote = writing === "note";
    composer.classList.toggle("as-note", isNote);
    text.placeholder = t(isNote ? "noteHint" : "replyHint");
    text.setAttribute("aria-label", t(writing));
    text.disabled = !isNote && held;
    go.disabled = text.disabled || busy;
    go.textContent = isNote ? t("saveNote") : isMine(item) ? t("send") : t("takeAndReply");
    hint.textContent = held ? t("heldBy", { name: item.person?.name ?? "" }) : isMine(item) ? t("botSilent") : "";
    grow();
  }

  function draw() {
    drawHead();
    drawThread();
    drawComposer();
    const opened = [...side.children].map((card) => card.open);
    side.replaceChildren(...aside(item));
    if (opened.length === side.children.length) [...side.children].forEach((card, n) => { card.open = opened[n]; });
  }

  async function load() {
    const asked = ++loads;
    const got = await attempt(() => get(path));
    // An older answer that comes after a newer one is old news.
    if (!got || gone || asked < shown) return;
    shown = asked;
    // A half-written correction must not vanish because a message came.
    if (thread.querySelector("form.correction")) { item = got; drawHead(); drawComposer(); return; }
    item = got;
    draw();
  }

  async function change(what, body) {
    const done = await attempt(() => post(`${path}/${what}`, body));
    await load();
    changed();
    return done;
  }

  async function take() {
    if (!item || isMine(item)) { text.focus(); return; }
    await change("take");
    // Whoever writes elsewhere by now goes on there.
    if (!isWriting(document.activeElement)) text.focus();
  }

  async function send() {
    const words = text.value.trim();
    if (!words || !item || busy) return;
    busy = true;
    // The box is free for the next words at once, and the focus is never taken from where it went meanwhile.
    text.value = "";
    text.focus();
    drawComposer();
    // The same words have the same id until the server has them: sent twice, they are said once.
    if (reply.words !== words) reply = { words, id: newId() };
    let done;
    if (writing === "note") {
      done = await attempt(() => post(`${path}/note`, { text: words }));
    } else {
      const held = isMine(item) || await attempt(() => post(`${path}/take`));
      done = held && await attempt(() => post(`${path}/reply`, { text: words, id: reply.id }));
    }
    busy = false;
    if (done) {
      reply = { words: "", id: null };
      if (!text.value) writing = "reply";
    } else {
      text.value = text.value ? `${words}\n${text.value}` : words;
    }
    sessionStorage.setItem(`draft:${id}`, text.value);
    await load();
    atEnd = true;
    thread.scrollTop = thread.scrollHeight;
    changed();
  }

  function write(kind) {
    writing = kind;
    if (item) drawComposer();
    text.focus();
  }

  load();
  return {
    reply: () => write("reply"),
    note: () => write("note"),
    take,
    heard(change) { if (change.kind === "all" || change.conversation_id === id) load(); },
    leave() { gone = true; wide.removeEventListener("change", settle); },
  };
}
