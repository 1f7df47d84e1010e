// The visitor's side of the API: a short-lived token that is renewed while in use, and an outbox that loses nothing.
import { events, follow } from "./sse.js";

/** What this browser keeps of the visitor; in memory where storage is forbidden (some browsers, in frames). */
const memory = new Map();
const keep = (name, value) => { memory.set(name, value); try { localStorage.setItem(`firstline:${name}`, JSON.stringify(value)); } catch { /* kept in memory */ } };
const kept = (name) => { if (memory.has(name)) return memory.get(name); try { return JSON.parse(localStorage.getItem(`firstline:${name}`)); } catch { return null; } };

export class Visitor {
  constructor({ operator, language }) {
    this.wishes = { operator: operator || undefined, language };
    this.token = null;
    this.renewAt = 0;
    this.opening = null;
    /** Operators' names by language, as far as the server tells them. */
    this.assistants = {};
  }

  /** A token that is still good; one request at a time asks for a new one. */
  async session(force = false) {
    if (!force && this.token && Date.now() < this.renewAt) return this.token;
    this.opening ??= this.open().finally(() => { this.opening = null; });
    return this.opening;
  }

  async open() {
    const ask = (token) => fetch("/widget/api/session", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ ...this.wishes, ...(token ? { token } : {}) }),
    });
    const old = kept("token");
    let response = await ask(old);
    // A token that has run out, or is of another server, is given up; the conversation begins anew.
    if (old && (response.status === 401 || response.status === 403)) response = await ask(null);
    if (!response.ok) throw await refusal(response);
    const got = await response.json();
    this.token = got.token;
    this.assistants = got.assistants ?? {};
    this.renewAt = Date.now() + Math.max(30_000, (got.expires_ms - Date.now()) * 0.6);
    keep("token", got.token);
    return this.token;
  }

  async fetch(path, options = {}, again = true) {
    const token = await this.session();
    const response = await fetch(`/widget/api/${path}`, { ...options, headers: { ...options.headers, Authorization: `Bearer ${token}` } });
    if (response.status === 401 && again) {
      await this.session(true);
      return this.fetch(path, options, false);
    }
    return response;
  }

  async post(path, body, signal) {
    const response = await this.fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal });
    if (!response.ok) throw await refusal(response);
    return response;
  }

  async history() {
    const response = await this.fetch("history");
    if (!response.ok) throw await refusal(response);
    return response.json();
  }

  /** The events of a message's answer. */
  async* send(id, text) {
    yield* events(await this.post("messages", { id, text }));
  }

  /** Follows what happens in the conversation from `after` on. */
  follow(after, seen, state, signal) {
    const open = (lastId, inner) => this.fetch(`events${after() != null && lastId == null ? `?after=${encodeURIComponent(after())}` : ""}`, {
      headers: lastId == null ? {} : { "Last-Event-ID": lastId }, signal: inner,
    });
    return follow(open, seen, state, signal);
  }

  // ---- the outbox: messages not yet taken by the server, with the ids under which they are sent again ----

  outbox() {
    return kept("outbox") ?? [];
  }

  put(message) {
    keep("outbox", [...this.outbox(), message]);
  }

  taken(id) {
    keep("outbox", this.outbox().filter((message) => message.id !== id));
  }
}

/** A refusal as an error with `status`; `status` 0 is no answer at all. */
async function refusal(response) {
  const told = await response.json().catch(() => null);
  const after = Number(response.headers.get("retry-after"));
  return Object.assign(new Error(told?.error?.message ?? response.statusText), { status: response.status, afterMs: after > 0 ? after * 1000 : null });
}
