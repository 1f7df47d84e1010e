// The messages on the screen: each once, in order, whoever tells of them first.
import { el } from "./dom.js";
import { show } from "./markdown.js";

export class Thread {
  constructor(place, words, lang) {
    this.place = place;
    this.words = words;
    this.clock = new Intl.DateTimeFormat(lang, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
    /** Message id to its node. */
    this.known = new Map();
    /** Answers streamed here whose id the server has not told: shown texts, so that the feed does not repeat them. */
    this.streamed = [];
    this.running = null;
    // Images come later than their messages; who reads the end stays at the end.
    let atEnd = true;
    place.addEventListener("scroll", () => { atEnd = place.scrollHeight - place.scrollTop - place.clientHeight < 120; });
    place.addEventListener("load", () => { if (atEnd) place.scrollTop = place.scrollHeight; }, true);
  }

  /** Who speaks, and that it is no person where the name does not say so. */
  speaker(name, kind) {
    return [el("strong", {}, name), kind && name !== this.words.assistant ? el("span", { class: "kind" }, kind) : null].filter(Boolean);
  }

  bubble(from, name, kind) {
    const body = el("div", { class: "md" });
    const head = from === "customer" ? null : el("header", {}, this.speaker(name, kind));
    const node = el("article", { class: `say say-${from}`, "aria-label": from === "customer" ? this.words.you : name }, head, body);
    return { node, body };
  }

  append(node) {
    // What is still being answered stays below what others say meanwhile.
    if (this.running?.node.isConnected && !this.running.text) this.place.insertBefore(node, this.running.node);
    else this.place.append(node);
  }

  hello(text, name) {
    const { node, body } = this.bubble("bot", name, "");
    body.textContent = text;
    node.classList.add("hello");
    this.place.append(node);
  }

  /** The visitor's own message. */
  mine(id, text, atMs, note = "") {
    if (this.known.has(id)) return;
    const { node, body } = this.bubble("customer", this.words.you);
    body.classList.add("as-written");
    body.textContent = text;
    node.append(el("footer", {}, el("span", { class: "note" }, note), el("time", {}, this.clock.format(atMs))));
    this.known.set(id, node);
    this.append(node);
  }

  /** What stands beside the visitor's own message: on its way, or why it was not sent. */
  note(id, text, bad = false) {
    const place = this.known.get(id)?.querySelector(".note");
    if (!place) return;
    place.textContent = text;
    place.classList.toggle("bad", bad);
  }

  /** Begins an answer that streams. */
  answer(name) {
    const { node, body } = this.bubble("bot", name, this.words.ai);
    const running = { node, text: "" };
    this.running = running;
    const put = () => { if (!node.isConnected) this.place.append(node); };
    return {
      node,
      wait: (words) => { put(); node.classList.add("busy"); node.setAttribute("aria-busy", "true"); body.setAttribute("aria-label", words); },
      add: (more) => {
        put();
        running.text += more;
        node.classList.remove("busy");
        body.removeAttribute("aria-label");
        show(body, running.text, this.words);
      },
      end: (id, finalName) => {
        this.running = null;
        node.classList.remove("busy");
        node.removeAttribute("aria-busy");
        if (!running.text) { node.remove(); return; }
        if (id && this.known.has(id)) { node.remove(); return; }
        node.querySelector("header").replaceChildren(...this.speaker(finalName, this.words.ai));
        node.append(el("footer", {}, el("time", {}, this.clock.format(Date.now()))));
        if (id) this.known.set(id, node);
        else this.streamed.push({ text: running.text.trim(), node });
      },
    };
  }

  /** Takes back an answer that broke off: it is asked for again under the same id. */
  dropAnswer() {
    this.running?.node.remove();
    this.running = null;
  }

  /** A message that the server tells of; false if it is on the screen already. */
  take(message, botName) {
    if (this.known.has(message.id)) { this.note(message.id, ""); return false; }
    if (message.from === "customer") {
      this.mine(message.id, message.text, message.at_ms);
      return true;
    }
    if (!message.text?.trim()) return false;
    if (message.from === "bot") {
      const at = this.streamed.findIndex((one) => one.text === message.text.trim());
      if (at >= 0) {
        this.known.set(message.id, this.streamed.splice(at, 1)[0].node);
        return false;
      }
      // The one that streams here now will be told of by its own stream.
      if (this.running?.text && message.text.trim().startsWith(this.running.text.trim().slice(0, 40))) return false;
    }
    if (message.from === "system") {
      const node = el("p", { class: "line" }, message.text);
      this.known.set(message.id, node);
      this.append(node);
      return true;
    }
    const { node, body } = this.bubble(message.from, message.name ?? message.person?.name ?? (message.from === "bot" ? botName : this.words.support), message.from === "bot" ? this.words.ai : "");
    show(body, message.text, this.words);
    node.append(el("footer", {}, el("time", {}, this.clock.format(message.at_ms))));
    this.known.set(message.id, node);
    this.append(node);
    return true;
  }

  toEnd(force) {
    const { place } = this;
    if (force || place.scrollHeight - place.scrollTop - place.clientHeight < 320) place.scrollTop = place.scrollHeight;
  }
}
