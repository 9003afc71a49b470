// The last minutes, drawn small.

import { get } from "./api.js";
import { bytes, empty, failed, h, plain, replace, s } from "./dom.js";
import { clock } from "./time.js";

const H = 150;
const LEFT = 44;
const BOTTOM = 20;
const TOP = 8;

export function mount(root) {
  let timer = 0;
  let closed = false;
  let stage = "total";
  let points = null;
  const grid = h("div", { class: "grid" });
  replace(root, h("div", { class: "page" }, h("h1", null, "Charts ", h("span", { class: "dim sub" }, "the last 15 minutes, every 5 seconds")), grid));
  look();

  async function look() {
    clearTimeout(timer);
    if (!document.hidden) {
      try {
        points = (await get("/api/v1/charts")).points;
        if (!closed) draw();
      } catch (error) {
        if (closed || error.status === 401) return;
        replace(grid, failed(error, look));
      }
    }
    if (!closed) timer = setTimeout(look, EVERY);
  }

  function draw() {
    if (points.length === 0) {
      replace(grid, empty("Nothing to draw yet", "The first point comes some seconds after the gateway's start."));
      return;
    }
    const rate = (key) => points.map((point) => (point[key] * 1000) / Math.max(1, point.ms));
    const kinds = top(points);
    const focused = document.activeElement?.id;
    replace(grid,
      chart("Requests a second", points, [{ name: "permitted", values: rate("permitted"), kind: 1 }, { name: "denied", values: rate("denied"), kind: 3 }], short),
      chart("Refusals a second, by kind", points, kinds.map((name, at) => ({ name, kind: at + 1, values: points.map((point) => ((point.refusals[name] ?? 0) * 1000) / Math.max(1, point.ms)) })), short, "No refusals in this time"),
      chart("Latency that the gateway added", points, ["p99_us", "p50_us", "mean_us"].map((key, at) => ({ name: { p99_us: "p99", p50_us: "p50", mean_us: "mean" }[key], kind: [3, 1, 2][at], values: points.map((point) => point.stages[stage]?.[key] ?? null) })), micros, "No exchanges in this time", stages()),
      chart("Waiting for a person", points, [{ name: "requests", values: points.map((point) => point.pending), kind: 2 }, { name: "grants", values: points.map((point) => point.granted), kind: 1 }], short),
      chart("Connections", points, [{ name: "callers", values: points.map((point) => point.connections), kind: 1 }, { name: "upstream, busy", values: points.map((point) => point.upstream_busy), kind: 4 }, { name: "upstream, idle", values: points.map((point) => point.upstream_idle), kind: 5 }], short),
      chart("Body bytes a second", points, [{ name: "to callers", values: rate("bytes_out"), kind: 1 }, { name: "from callers", values: rate("bytes_in"), kind: 4 }], (value) => bytes(Math.round(value))));
    if (focused) document.getElementById(focused)?.focus();
  }

  function stages() {
    const names = ["total", "decide", "connect", "release"];
    return h("select", { id: "stage", "aria-label": "Stage", onchange(event) { stage = event.target.value; draw(); } }, names.map((name) => h("option", { value: name, selected: name === stage }, name)));
  }

  return { refresh: look, close() { closed = true; clearTimeout(timer); } };
}

// The kinds that came most, five at most.
function top(points) {
  const sums = new Map();
  for (const point of points) for (const [name, count] of Object.entries(point.refusals)) sums.set(name, (sums.get(name) ?? 0) + count);
  return [...sums].sort((one, other) => other[1] - one[1]).slice(0, 5).map(([name]) => name);
}

function short(value) {
  if (value === null) return "";
  if (value >= 1000) return Math.round(value).toLocaleString("en");
  return value >= 10 || Number.isInteger(value) ? String(Math.round(value)) : value.toFixed(value >= 1 ? 1 : 2);
}

function micros(value) {
  if (value === null) return "";
  return value >= 1000 ? `${(value / 1000).toFixed(value >= 10_000 ? 0 : 1)} ms` : `${Math.round(value)} \u00b5s`;
}

// A round number above all values.
function ceiling(values, whole) {
  const most = Math.max(0, ...values.filter((value) => value !== null));
  if (most <= 1 && whole) return 2;
  if (most === 0) return 1;
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 4, 6, 8, 10].map((step) => step * power).find((step) => step >= most * 1.02) ?? most;
}

function chart(title, points, lines, text, none, tool) {
  // As wide as it is drawn, so that its words are read on a phone as well.
  const W = innerWidth < 600 ? 350 : 560;
  const all = lines.flatMap((line) => line.values);
  const head = h("div", { class: "chart-head" }, h("h2", null, title), tool);
  if (lines.length === 0 || all.every((value) => value === null)) return h("section", { class: "card" }, head, h("p", { class: "dim nothing" }, none));
  const most = ceiling(all, all.every((value) => Number.isInteger(value)));
  const x = (at) => LEFT + (at / Math.max(1, points.length - 1)) * (W - LEFT - 6);
  const y = (value) => TOP + (1 - value / most) * (H - TOP - BOTTOM);
  const drawing = s("svg", { viewBox: `0 0 ${W} ${H}`, class: "chart", role: "img", "aria-label": `${title}: ${lines.map((line) => `${line.name} ${text(line.values.at(-1)) || "none"}`).join(", ")}` });
  for (const part of [0, 0.5, 1]) {
    const at = y(most * part);
    drawing.append(s("line", { class: "rule", x1: LEFT, x2: W - 6, y1: at, y2: at }), s("text", { class: "tick", x: LEFT - 6, y: at + 3.5, "text-anchor": "end" }, text(most * part)));
  }
  const ends = points.length > 1 ? [[0, "start"], [points.length - 1, "end"]] : [[0, "start"]];
  for (const [at, anchor] of ends) drawing.append(s("text", { class: "tick", x: x(at), y: H - 4, "text-anchor": anchor }, clock(points[at].at)));
  for (const line of lines) {
    let path = "";
    let pen = false;
    line.values.forEach((value, at) => {
      if (value !== null) path += `${pen ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
      // A point between two gaps is a dot.
      if (value !== null && !pen && line.values[at + 1] === null) path += "h0.1";
      pen = value !== null;
    });
    drawing.append(s("path", { class: `line line-${line.kind}`, d: path }));
  }
  const cursor = s("line", { class: "cursor", y1: TOP, y2: H - BOTTOM, x1: -10, x2: -10 });
  drawing.append(cursor);
  const legend = h("div", { class: "legend" });
  const tell = (at) => replace(legend,
    lines.map((line) => h("span", null, h("i", { class: `dot dot-${line.kind}` }), `${plain(line.name)} `, h("b", null, text(line.values[at] ?? null) || "\u2014"))),
    h("span", { class: "dim" }, at === points.length - 1 ? "now" : clock(points[at].at)));
  tell(points.length - 1);
  drawing.addEventListener("pointermove", (event) => {
    const box = drawing.getBoundingClientRect();
    const part = (((event.clientX - box.left) / box.width) * W - LEFT) / (W - LEFT - 6);
    const at = Math.round(Math.min(1, Math.max(0, part)) * (points.length - 1));
    cursor.setAttribute("x1", x(at));
    cursor.setAttribute("x2", x(at));
    tell(at);
  });
  drawing.addEventListener("pointerleave", () => {
    cursor.setAttribute("x1", -10);
    cursor.setAttribute("x2", -10);
    tell(points.length - 1);
  });
  return h("section", { class: "card" }, head, legend, drawing);
}

const EVERY = 5000;
