// Requests to the console's API: the session cookie goes by itself, changes carry the CSRF token.

const ROOT = "/console/api";
let csrf = "";

/** A refusal by the server, or no answer at all (status 0). */
export class Refused extends Error {
  constructor(status, message, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export function rememberCsrf(token) {
  csrf = token ?? "";
}

/** The raw response; throws `Refused` unless it is 2xx. */
export async function request(method, path, body, signal) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET" && csrf) headers["X-CSRF-Token"] = csrf;
  let response;
  try {
    response = await fetch(ROOT + path, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, error.message);
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => null);
  if (response.status === 401) window.dispatchEvent(new Event("signed-out"));
  throw new Refused(response.status, told?.error?.message ?? response.statusText, told?.error?.code);
}

async function json(response) {
  const text = await response.text();
  return text ? JSON.parse(text) : {};
}

export const get = async (path, signal) => json(await request("GET", path, undefined, signal));
export const post = async (path, body = {}) => json(await request("POST", path, body));
export const put = async (path, body) => json(await request("PUT", path, body));
export const remove = async (path) => json(await request("DELETE", path));

/** A query string of the values that are not empty. */
export function query(values) {
  const kept = Object.entries(values).filter(([, value]) => value !== "" && value != null);
  return kept.length ? `?${new URLSearchParams(kept)}` : "";
}
