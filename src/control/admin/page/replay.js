// A session as it went by, with its timing.

import { get } from "./api.js";
import { h, icon, plain, replace } from "./dom.js";
import { typing } from "./keys.js";
import { head, marked, sql } from "./show.js";

const SPEEDS = [0.25, 0.5, 1, 2, 5, 20];
const SIDES = { caller: "Caller", upstream: "Upstream", gateway: "Gateway" };

export function player(id, start, protocol) {
  let steps = null;
  let next = null;
  // Where each step stands on the clock of the replay.
  let marks = [];
  let at = 0;
  let shown = 0;
  let speed = 1;
  let short = true;
  let playing = false;
  let last = 0;
  let frame = 0;
  let closed = false;
  let block = null;
  const screen = h("div", { class: "screen", tabindex: "0", "aria-label": "What went by" });
  const button = h("button", { type: "button", class: "round", onclick: () => (playing ? pause() : play()) });
  const scrub = h("input", { type: "range", min: "0", max: "1000", value: "0", "aria-label": "Place in the replay", oninput() { seek((Number(scrub.value) / 1000) * length()); } });
  const clock = h("span", { class: "mono clock" });
  const rate = h("select", { "aria-label": "Speed", onchange() { speed = Number(rate.value); } }, SPEEDS.map((one) => h("option", { value: one, selected: one === 1 }, `${one}\u00d7`)));
  const brief = h("label", { class: "check" }, h("input", { type: "checkbox", checked: true, onchange(event) { short = event.target.checked; measure(); seek(Math.min(at, length())); } }), "Shorten pauses");
  const inside = h("div", { class: "player", hidden: true },
    h("div", { class: "controls" }, button, h("button", { type: "button", class: "round", title: "From the beginning", "aria-label": "From the beginning", onclick() { seek(0); play(); } }, icon("restart")), scrub, clock, rate, brief),
    screen);
  const open = h("button", { type: "button", onclick: begin }, icon("play"), "Replay with timing");
  const box = h("section", { class: "replay", "aria-label": "Replay" }, open, inside);
  drawButton();

  async function begin() {
    open.disabled = true;
    try {
      await load(null);
    } catch (error) {
      open.disabled = false;
      replace(screen, h("p", { class: "wrong" }, plain(error.message)));
      inside.hidden = false;
      return;
    }
    open.remove();
    inside.hidden = false;
    seek(0);
    play();
    button.focus();
  }

  async function load(after) {
    const query = new URLSearchParams();
    if (start) query.set("start", start);
    if (after !== null) query.set("after", after);
    const found = await get(`/api/v1/sessions/${id}/replay?${query}`);
    steps = [...(steps ?? []), ...found.steps];
    next = found.next;
    measure();
  }

  function measure() {
    let clock = 0;
    let before = steps[0]?.at_ms ?? 0;
    marks = steps.map((step) => {
      const gap = Math.max(0, step.at_ms - before);
      before = step.at_ms;
      clock += short ? Math.min(gap, PAUSE_MAX) : gap;
      return clock;
    });
  }

  function length() {
    return Math.max(1, marks.at(-1) ?? 1);
  }

  function play() {
    if (closed || steps === null) return;
    if (at >= length() && next === null) seek(0);
    playing = true;
    last = performance.now();
    drawButton();
    frame = requestAnimationFrame(tick);
  }

  function pause() {
    playing = false;
    cancelAnimationFrame(frame);
    drawButton();
  }

  function tick(time) {
    if (!playing || closed) return;
    at = Math.min(length(), at + (time - last) * speed);
    last = time;
    draw();
    if (at < length()) {
      frame = requestAnimationFrame(tick);
    } else if (next !== null) {
      load(next).then(() => { last = performance.now(); frame = requestAnimationFrame(tick); }, pause);
    } else {
      pause();
    }
  }

  function seek(to) {
    at = Math.max(0, to);
    if (shown > 0 && (marks[shown - 1] ?? 0) > at) {
      shown = 0;
      block = null;
      screen.replaceChildren();
    }
    draw();
  }

  function draw() {
    const down = screen.scrollHeight - screen.scrollTop - screen.clientHeight < 60;
    while (shown < steps.length && marks[shown] <= at) {
      show(steps[shown]);
      shown += 1;
    }
    if (down) screen.scrollTop = screen.scrollHeight;
    scrub.value = String(Math.round((at / length()) * 1000));
    clock.textContent = `${seconds(steps[Math.max(0, shown - 1)]?.at_ms ?? 0)} of ${seconds(steps.at(-1)?.at_ms ?? 0)}${next === null ? "" : "+"}`;
  }

  // Pieces of one body follow each other in one block, as they came.
  function show(step) {
    const kind = `${step.side}-${step.kind}`;
    const text = step.text ?? "";
    if (block?.kind === kind && step.text !== undefined && !step.kind.endsWith("_head")) {
      block.text.append(h("span", { class: "fresh", title: `+${step.at_ms.toFixed(1)} ms` }, render(step)));
      return;
    }
    if (step.text !== undefined && text === "") return;
    const pre = h("pre", { class: "code" }, step.text === undefined ? fields(step.fields) : h("span", { title: `+${step.at_ms.toFixed(1)} ms` }, render(step)));
    block = step.text === undefined ? null : { kind, text: pre };
    screen.append(h("div", { class: `went ${step.side}` },
      h("div", { class: "went-by" }, h("strong", null, SIDES[step.side]), h("span", { class: "dim" }, step.kind.replaceAll("_", " ")), h("span", { class: "mono dim" }, `+${step.at_ms.toFixed(1)} ms`)),
      pre));
  }

  function render(step) {
    if (step.kind.endsWith("_head")) return head(step.text.trimEnd());
    if (protocol === "postgres" && step.side === "caller") return sql(step.text);
    return [...marked(step.text), step.cut ? h("span", { class: "dim" }, " (cut)") : null].filter(Boolean);
  }

  function fields(all) {
    return Object.entries(all).filter(([name]) => NOTED.has(name)).map(([name, value]) => `${name}=${plain(Array.isArray(value) ? value.join(",") : value)}`).join("  ") || "\u2014";
  }

  function drawButton() {
    replace(button, icon(playing ? "pause" : "play"));
    button.setAttribute("aria-label", playing ? "Pause" : "Play");
    button.title = playing ? "Pause (space)" : "Play (space)";
  }

  return {
    box,
    key(event) {
      if (event.key !== " " || typing(event) || steps === null || event.target instanceof HTMLButtonElement) return false;
      if (playing) pause(); else play();
      return true;
    },
    close() { closed = true; pause(); },
  };
}

function seconds(ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

const NOTED = new Set(["sub", "rule", "decision", "refusal", "failure", "ending", "status", "credential", "count", "bytes_in", "bytes_out", "detector"]);
const PAUSE_MAX = 1500;
