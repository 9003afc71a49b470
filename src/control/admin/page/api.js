// The API, as whoever is signed in.

import { heard } from "./time.js";

let csrf = null;

// An answer that says why not, in its own words.
export class Problem extends Error {
  constructor(status, body) {
    super(body?.detail ?? (status ? `The gateway answered ${status}.` : "The gateway cannot be reached."));
    this.status = status;
    this.kind = String(body?.type ?? "").split("/").pop();
    this.body = body ?? {};
  }
}

export async function get(path, signal) {
  return call("GET", path, undefined, signal);
}

export async function post(path, body) {
  return call("POST", path, body ?? {});
}

async function call(method, path, body, signal) {
  const headers = { accept: "application/json" };
  if (body !== undefined) headers["content-type"] = "application/json";
  if (method !== "GET" && csrf) headers["x-weirgate-csrf"] = csrf;
  let answer;
  try {
    answer = await fetch(path, {
      method, headers, signal, credentials: "same-origin", redirect: "error",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, null);
  }
  heard(answer.headers.get("date"));
  const told = await answer.json().catch(() => null);
  if (!answer.ok) {
    const problem = new Problem(answer.status, told);
    if (answer.status === 401) document.dispatchEvent(new CustomEvent("signed-out", { detail: problem }));
    throw problem;
  }
  return told;
}

export async function whoami() {
  const me = await get("/api/v1/me");
  csrf = me.csrf;
  return me;
}

// Listens for ever; `on.event(name, data)`, `on.state("live" | "lost")`. Returns how to stop.
export function listen(on) {
  const stop = new AbortController();
  follow(on, stop.signal);
  return () => stop.abort();
}

async function follow(on, signal) {
  let wait = WAIT_MIN;
  while (!signal.aborted) {
    try {
      const answer = await fetch("/api/v1/events", {
        signal, credentials: "same-origin", redirect: "error", headers: { accept: "text/event-stream" },
      });
      if (answer.status === 401) {
        document.dispatchEvent(new CustomEvent("signed-out", { detail: new Problem(401, await answer.json().catch(() => null)) }));
        return;
      }
      if (!answer.ok) throw new Problem(answer.status, null);
      wait = WAIT_MIN;
      on.state("live");
      await events(answer.body, on, signal);
    } catch {
      if (signal.aborted) return;
      on.state("lost");
    }
    // Not all of them at once when the gateway comes back.
    await pause(wait * (0.7 + 0.6 * Math.random()), signal);
    wait = Math.min(wait * 2, WAIT_MAX);
  }
}

async function events(body, on, signal) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (!signal.aborted) {
    // A stream that says nothing is dead: the gateway sends a sign of life.
    const { done, value } = await Promise.race([reader.read(), pause(SILENCE, signal).then(() => ({ done: true }))]);
    if (done) {
      reader.cancel().catch(() => {});
      return;
    }
    text += value;
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const lines = text.slice(0, end).split("\n");
      text = text.slice(end + 2);
      const field = (name) => lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
      const data = field("data");
      if (data) on.event(field("event"), JSON.parse(data));
    }
  }
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}

const WAIT_MIN = 500;
const WAIT_MAX = 15_000;
const SILENCE = 45_000;
