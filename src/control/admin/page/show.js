// Statements, JSON, heads and other texts as people read them. What is shown is every character that
// there is: only blanks between the marks of JSON are put anew, and the text as it was is a press away.

import { h, seen } from "./dom.js";

// What masks leave in the place of a value.
const MASKED = /\[(?:REDACTED|[A-Z][A-Z0-9_]{1,31}(?::[0-9A-Za-z+/=_-]{1,64})?)\]|(?<![/*])\*{4,}(?![/*])/g;

// Pieces of a text with its masked values marked.
export function marked(text) {
  const pieces = [];
  let from = 0;
  for (const found of text.matchAll(MASKED)) {
    pieces.push(...seen(text.slice(from, found.index)));
    pieces.push(h("mark", { title: "A masked value: what goes upstream is the original" }, found[0]));
    from = found.index + found[0].length;
  }
  pieces.push(...seen(text.slice(from)));
  return pieces;
}

function token(kind, text) {
  return h("span", { class: `t-${kind}` }, marked(text));
}

const SQL = [
  ["note", /--[^\n]*|\/\*[\s\S]*?(?:\*\/|$)/y],
  ["text", /\$([A-Za-z_\u0080-\uffff][A-Za-z0-9_\u0080-\uffff]*)?\$[\s\S]*?\$\1\$/y],
  ["text", /[eE]'(?:[^'\\]|\\[\s\S]|'')*(?:'|$)|(?:[bBxXnN]|[uU]&)?'(?:[^']|'')*(?:'|$)/y],
  ["name", /(?:[uU]&)?"(?:[^"]|"")*(?:"|$)/y],
  ["value", /\$\d+/y],
  ["number", /\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?/y],
  ["word", /[A-Za-z_\u0080-\uffff][A-Za-z0-9_$\u0080-\uffff]*/y],
  [null, /[\s\S]/y],
];

const WORDS = new Set(("select from where and or not in is null as on join left right inner outer full cross lateral using group by " +
  "order having limit offset fetch union all except intersect distinct insert into values update set delete returning with " +
  "recursive create table view index drop alter add column truncate cascade restrict grant revoke to begin commit rollback " +
  "savepoint copy case when then else end like ilike between exists any some true false default primary key references " +
  "unique check constraint for show set explain analyze execute prepare deallocate call do declare cursor merge matched " +
  "function procedure trigger schema database role user language if asc desc nulls first last over partition window filter").split(" "));
const ALARMS = new Set("delete drop truncate update insert alter grant revoke create copy merge call execute do".split(" "));

export function sql(text) {
  const pieces = [];
  let loose = "";
  for (let at = 0; at < text.length; ) {
    for (const [kind, pattern] of SQL) {
      pattern.lastIndex = at;
      const found = pattern.exec(text)?.[0];
      if (!found) continue;
      at += found.length;
      const low = found.toLowerCase();
      const word = kind === "word" ? (ALARMS.has(low) ? "alarm" : WORDS.has(low) ? "key" : null) : kind;
      // A value that is masked is one piece, also where it is no literal.
      if (word) {
        pieces.push(...marked(loose), token(word, found));
        loose = "";
      } else {
        loose += found;
      }
      break;
    }
  }
  pieces.push(...marked(loose));
  return pieces;
}

const JSON_TOKEN = /\s+|"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null|[[\]{}:,]/y;

// The marks of a JSON text, or nothing where it is none. Numbers and doubled keys stay as they are.
function marksOf(text) {
  try {
    JSON.parse(text);
  } catch {
    return null;
  }
  const marks = [];
  for (let at = 0; at < text.length; ) {
    JSON_TOKEN.lastIndex = at;
    const found = JSON_TOKEN.exec(text)?.[0];
    if (!found) return null;
    at += found.length;
    if (found.trim()) marks.push(found);
  }
  return marks;
}

export function json(text) {
  const first = text.trimStart()[0];
  const marks = first === "{" || first === "[" ? marksOf(text) : null;
  if (!marks) return null;
  const pieces = [];
  let depth = 0;
  const line = () => pieces.push("\n" + "  ".repeat(Math.min(depth, 40)));
  marks.forEach((mark, place) => {
    const next = marks[place + 1];
    if (mark === "{" || mark === "[") {
      pieces.push(mark);
      depth += 1;
      if (next !== "}" && next !== "]") line();
    } else if (mark === "}" || mark === "]") {
      depth -= 1;
      const before = marks[place - 1];
      if (before !== "{" && before !== "[") line();
      pieces.push(mark);
    } else if (mark === ",") {
      pieces.push(mark);
      line();
    } else if (mark === ":") {
      pieces.push(": ");
    } else if (mark[0] === '"') {
      pieces.push(token(next === ":" ? "name" : "text", mark));
    } else {
      pieces.push(token(/^[-\d]/.test(mark) ? "number" : "key", mark));
    }
  });
  return pieces;
}

// A head: its first line, then names and values.
export function head(text) {
  return text.split(/\r?\n/).flatMap((line, place) => {
    const end = place === 0 ? "" : "\n";
    const colon = line.indexOf(":");
    if (place === 0) {
      const [method, ...rest] = line.split(" ");
      return [token("alarm", method), rest.length ? " " : "", ...marked(rest.join(" "))];
    }
    return colon < 0 ? [end, ...marked(line)] : [end, token("name", line.slice(0, colon + 1)), ...marked(line.slice(colon + 1))];
  });
}

// Lines of an answer that is a stream of events.
function stream(text) {
  return text.split("\n").flatMap((line, place) => {
    const found = /^(event|data|id|retry|)(:)/.exec(line);
    const before = place ? "\n" : "";
    if (!found) return [before, ...marked(line)];
    return [before, token("key", found[0]), ...marked(line.slice(found[0].length))];
  });
}

// A body of any kind: what is JSON in order, and a way to see it as it is.
export function body(text) {
  return json(text) ?? (/^(event|data|id): ?/.test(text) ? stream(text) : marked(text));
}

// A request of HTTP as it was asked about: head, blank line, body.
export function message(text) {
  const end = text.search(/\r?\n\r?\n/);
  if (end < 0) return head(text.replace(/\n$/, ""));
  const rest = text.slice(end).replace(/^\r?\n\r?\n/, "");
  return [...head(text.slice(0, end)), "\n\n", ...body(rest)];
}

// A box of code. What is long is folded until it is opened; `options.folded` hears of it.
export function code(text, how, options = {}) {
  const pretty = how ? how(text) : marked(text);
  const block = h("pre", { class: "code", tabindex: "0", "aria-label": options.label ?? "Text" }, pretty);
  const lines = block.textContent.split("\n").length;
  const long = lines > LINES_MAX || text.length > LENGTH_MAX;
  const tools = h("div", { class: "code-tools" });
  const box = h("div", { class: "code-box" }, tools, block);
  tools.append(h("span", { class: "dim" }, options.label ? `${options.label} \u00b7 ` : "", `${lines} line${lines === 1 ? "" : "s"}`));
  if (how) {
    let raw = false;
    const button = h("button", { type: "button", class: "small quiet", "aria-pressed": "false", title: "Every character as it was recorded", onclick() {
      raw = !raw;
      block.replaceChildren(...(raw ? marked(text) : how(text)));
      button.setAttribute("aria-pressed", String(raw));
    } }, "As it is");
    tools.append(button);
  }
  if (long) {
    block.classList.add("folded");
    options.folded?.(true);
    const open = h("button", { type: "button", class: "unfold", onclick() {
      block.classList.remove("folded");
      open.remove();
      options.folded?.(false);
    } }, `Show all ${lines} lines`);
    box.append(open);
  }
  return box;
}

const LINES_MAX = 26;
const LENGTH_MAX = 6000;
