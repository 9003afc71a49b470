// Times as people read them: how long ago beside when. One clock moves all of them.

import { h } from "./dom.js";

// What the server's clock is ahead of this one's, in milliseconds.
let ahead = 0;

export function heard(date) {
  const there = Date.parse(date ?? "");
  // To the second: enough for a countdown that a person looks at.
  if (Number.isFinite(there)) {
    const found = there + 500 - Date.now();
    if (Math.abs(found - ahead) > 1500) ahead = found;
  }
}

export function now() {
  return Date.now() + ahead;
}

export function span(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${pad(seconds % 60)} s`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${pad(Math.floor(seconds / 60) % 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor(seconds / 3600) % 24} h`;
}

// A duration of the policy, in words.
export function lasting(ms) {
  const units = [[86_400_000, "day"], [3_600_000, "hour"], [60_000, "minute"], [1000, "second"]];
  const [size, word] = units.find(([size]) => ms >= size && ms % size === 0) ?? [1000, "second"];
  const count = Math.round((ms / size) * 10) / 10;
  return `${count} ${word}${count === 1 ? "" : "s"}`;
}

function pad(number) {
  return String(number).padStart(2, "0");
}

function local(date) {
  const day = `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
  return `${day} ${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
}

export function clock(iso) {
  const date = new Date(iso);
  const today = new Date(now()).toDateString() === date.toDateString();
  return today ? local(date).slice(11) : local(date).slice(5, 16);
}

// "12 s ago", "in 4 min 05 s", or both with the time of day behind.
export function when(iso, mode) {
  if (!iso) return null;
  const element = h("time", { datetime: iso, title: `${local(new Date(iso))} (${iso})`, "data-mode": mode ?? "ago" });
  draw(element);
  return element;
}

function draw(element) {
  const iso = element.getAttribute("datetime");
  const left = Date.parse(iso) - now();
  const mode = element.dataset.mode;
  let text;
  if (mode === "left") {
    text = left > 0 ? `${span(left)} left` : "time is up";
    element.classList.toggle("soon", left > 0 && left < 60_000);
    element.classList.toggle("over", left <= 0);
  } else if (mode === "for") {
    text = span(-left);
  } else {
    const near = left > 0 ? `in ${span(left)}` : -left < 2000 ? "just now" : `${span(-left)} ago`;
    text = mode === "both" ? `${near} \u00b7 ${clock(iso)}` : near;
  }
  if (element.textContent !== text) element.textContent = text;
}

setInterval(() => document.querySelectorAll("time[data-mode]").forEach(draw), 1000);
