// Elements, made by calls only: no text of anybody is ever read as markup.

const SVG = "http://www.w3.org/2000/svg";

// h("a", { class: "x", href: "#", onclick: f }, "text", node, [more])
export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

// The same for what is drawn.
export function s(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.setAttribute("class", value);
    else if (value === true) element.setAttribute(name, "");
    else element.setAttribute(name, String(value));
  }
  put(element, children);
  return element;
}

function put(element, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) put(element, child);
    else element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

export function replace(element, ...children) {
  element.replaceChildren();
  put(element, children);
}

// What steers how text is drawn, or is not seen: told by its number, so that nothing that a person
// decides about looks like something else.
const UNSEEN =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb]|[\u{e0000}-\u{e0fff}]/gu;

function number(char) {
  return `U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
}

// Text for one place of a line.
export function plain(text) {
  return String(text ?? "").replace(UNSEEN, (char) => `\u27e8${number(char)}\u27e9`);
}

// Pieces of a text in which what is not seen is marked.
export function seen(text) {
  const pieces = [];
  let from = 0;
  for (const found of text.matchAll(UNSEEN)) {
    // Windows' line ends.
    if (found[0] === "\r" && text[found.index + 1] === "\n") continue;
    if (found.index > from) pieces.push(text.slice(from, found.index));
    pieces.push(h("span", { class: "odd", title: "A character that is not seen, or that changes the order of others" }, number(found[0])));
    from = found.index + found[0].length;
  }
  if (from < text.length) pieces.push(text.slice(from));
  return pieces;
}

export function icon(name) {
  return s("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" }, s("path", { d: ICONS[name] }));
}

const ICONS = {
  approvals: "M12 3l7 3v5c0 5-3 8-7 10-4-2-7-5-7-10V6zM9 12l2 2 4-4",
  live: "M3 12h4l3-7 4 14 3-7h4",
  record: "M5 4h14v16H5zM9 8h6M9 12h6M9 16h3",
  charts: "M4 20V4M4 20h16M8 16v-4M12 16V8M16 16v-6",
  sun: "M12 8a4 4 0 100 8 4 4 0 000-8zM12 2v3M12 19v3M2 12h3M19 12h3M5 5l2 2M17 17l2 2M19 5l-2 2M7 17l-2 2",
  moon: "M20 14a8 8 0 11-10-10 6.500 6.500 0 0010 10z",
  help: "M9 9a3 3 0 116 0c0 2-3 2-3 4M12 17v.5",
  back: "M15 5l-7 7 7 7",
  play: "M8 5l11 7-11 7z",
  pause: "M8 5v14M16 5v14",
  restart: "M5 5v5h5M5 10a8 8 0 111 7",
  out: "M10 4H5v16h5M14 8l4 4-4 4M18 12H9",
};

export function badge(text, kind) {
  return h("span", { class: `badge ${kind ?? ""}` }, plain(text));
}

// Names and values, those without a value left out.
export function facts(list) {
  const rows = list.filter(([, value]) => value !== null && value !== undefined && value !== false && value !== "");
  return h("dl", { class: "facts" }, rows.map(([name, value]) =>
    h("div", null, h("dt", null, name), h("dd", null, value instanceof Node || Array.isArray(value) ? value : plain(value)))));
}

export function empty(title, text, ...more) {
  return h("div", { class: "empty" }, h("p", { class: "empty-title" }, title), h("p", null, text), more);
}

// What went wrong, in the words of the API, and what can be done.
export function failed(error, again) {
  return h("div", { class: "failed", role: "alert" },
    h("p", { class: "empty-title" }, error.status === 403 ? "You may not see this" : "This could not be loaded"),
    h("p", null, plain(error.message)),
    again && h("button", { type: "button", onclick: again }, "Try again"));
}

export function toast(text, kind) {
  const box = h("div", { class: `toast ${kind ?? ""}` }, plain(text));
  const list = document.getElementById("toasts");
  list.append(box);
  while (list.childElementCount > 3) list.firstElementChild.remove();
  setTimeout(() => box.remove(), kind === "bad" ? 9000 : 3500);
}

// For those who hear the page.
export function say(text) {
  document.getElementById("said").textContent = plain(text);
}

export function bytes(count) {
  if (count === null || count === undefined) return "";
  if (count < 1000) return `${count} B`;
  const units = ["kB", "MB", "GB", "TB"];
  let value = count;
  let unit = -1;
  do { value /= 1000; unit += 1; } while (value >= 999.5 && unit < units.length - 1);
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}
