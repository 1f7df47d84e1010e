// Server-sent events over fetch, for requests that EventSource cannot make: POST, and those with headers.

/** The events of one response, each `{event, data, id}`. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    buffer += value.replace(/\r/g, "");
    const parts = buffer.split("\n\n");
    buffer = parts.pop();
    for (const part of parts) {
      const found = parse(part);
      if (found) yield found;
    }
  }
}

function parse(part) {
  const found = { event: "message", data: null, id: null };
  for (const line of part.split("\n")) {
    const at = line.indexOf(":");
    if (at <= 0) continue;
    const [field, value] = [line.slice(0, at), line.slice(at + 1).replace(/^ /, "")];
    if (field === "data") found.data = found.data === null ? value : `${found.data}\n${value}`;
    else if (field === "event") found.event = value;
    else if (field === "id") found.id = value;
  }
  return found.data === null ? null : found;
}

/**
 * Follows a feed for ever: reconnects with growing pauses and asks for what came after the last event seen.
 * `open(lastId, signal)` makes the request; `seen(event)` gets each event; `state(up)` hears of losses and returns.
 */
export async function follow(open, seen, state, signal) {
  let lastId = null, pause = 500;
  while (!signal.aborted) {
    try {
      const response = await open(lastId, signal);
      if (!response.ok) throw Object.assign(new Error("refused"), { status: response.status });
      state(true);
      pause = 500;
      for await (const event of events(response)) {
        if (event.id) lastId = event.id;
        seen(event);
      }
    } catch (error) {
      if (signal.aborted) return;
      state(false, error);
    }
    await sleep(pause * (0.7 + 0.6 * Math.random()), signal);
    pause = Math.min(pause * 2, 15_000);
  }
}

/** Waits; ends early when aborted, or when the browser comes back online. */
function sleep(ms, signal) {
  return new Promise((resolve) => {
    const end = () => { clearTimeout(timer); window.removeEventListener("online", end); resolve(); };
    const timer = setTimeout(end, ms);
    window.addEventListener("online", end, { once: true });
    signal.addEventListener("abort", end, { once: true });
  });
}
