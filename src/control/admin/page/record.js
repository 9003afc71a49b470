// The record: a search from the newest backwards, and one exchange whole.

import { get } from "./api.js";
import { badge, bytes, empty, facts, failed, h, icon, plain, replace } from "./dom.js";
import { direction, step, typing } from "./keys.js";
import { player } from "./replay.js";
import { body, code, head, marked, sql } from "./show.js";
import { when } from "./time.js";

const TIMES = [["", "All"], ["15m", "15 min"], ["1h", "1 hour"], ["24h", "24 hours"], ["7d", "7 days"]];
const NAMED = { caller: "caller", sub: "caller", resource: "resource", decision: "decision", refusal: "decision", since: "since", until: "until" };

// One box for all: `caller:ana decision:deny orders` is two names and a word.
function query(text, since) {
  const wanted = new URLSearchParams();
  const words = [];
  for (const [word] of text.matchAll(/[a-z]+:"[^"]*"|\S+/g)) {
    const [, name, value] = /^([a-z]+):"?([^"]*)"?$/.exec(word) ?? [];
    if (NAMED[name] && value) wanted.set(NAMED[name], value);
    else words.push(word);
  }
  if (since && !wanted.has("since")) wanted.set("since", since);
  if (words.length > 0) wanted.set("q", words.join(" "));
  return wanted;
}

export function mount(root, place, app) {
  const search = browser(app);
  let one = null;
  update(place);

  function update(at) {
    if (at.id) {
      if (one?.id !== at.id) {
        one?.close();
        one = exchange(at.id, at.query.get("start"));
      }
      replace(root, one.box);
    } else {
      one?.close();
      one = null;
      replace(root, search.box);
      search.open();
    }
    scrollTo(0, 0);
  }

  return {
    update,
    refresh() {},
    key(event) {
      if (one) {
        if (event.key === "Escape" && !typing(event)) {
          history.length > 1 ? history.back() : (location.hash = "#/record");
          return true;
        }
        return one.key(event);
      }
      return search.key(event);
    },
    close() { one?.close(); },
  };
}

function browser() {
  let since = "";
  let next = null;
  let rows = [];
  let asked = false;
  let latest = 0;
  const input = h("input", { type: "search", id: "search", placeholder: "caller:ana resource:orders decision:deny any words", autocomplete: "off", spellcheck: "false" });
  const times = h("div", { class: "segments", role: "group", "aria-label": "How far back" });
  const found = h("div");
  const box = h("div", { class: "page" },
    h("h1", null, "Record"),
    h("form", { class: "search", role: "search", onsubmit(event) { event.preventDefault(); look(); } },
      h("label", { class: "unseen", for: "search" }, "Search the record"), input,
      h("button", { type: "submit", class: "primary" }, "Search")),
    h("div", { class: "filters" }, times, h("span", { class: "dim hint" }, "Names: ", ["caller:", "resource:", "decision:", "since:", "until:"].map((name) => [h("button", { type: "button", class: "chip mono", onclick() {
      input.value = `${input.value.trim()} ${name}`.trim();
      input.focus();
    } }, name), " "]))),
    found);
  drawTimes();

  function drawTimes() {
    replace(times, TIMES.map(([value, name]) => h("button", { type: "button", "aria-pressed": String(value === since), onclick() {
      since = value;
      drawTimes();
      look();
    } }, name)));
  }

  async function look(more) {
    const turn = ++latest;
    const wanted = query(input.value, since);
    if (more && next) wanted.set("cursor", next);
    if (!more) replace(found, h("p", { class: "dim pad" }, "Reading the record\u2026"));
    try {
      const page = await get(`/api/v1/sessions?${wanted}`);
      if (turn !== latest) return;
      rows = more ? [...rows, ...page.sessions] : page.sessions;
      next = page.next;
      draw(page);
    } catch (error) {
      if (turn === latest && error.status !== 401) replace(found, failed(error, () => look(more)));
    }
  }

  function draw(page) {
    const at = found.contains(document.activeElement);
    const rest = next && h("button", { type: "button", class: "wide", onclick: () => look(true) }, page.reached && page.sessions.length === 0 ? "Search further back" : "Load more");
    const reached = page.reached && h("p", { class: "dim pad" }, "Everything that began ", when(page.reached, "both"), " or later was looked at.");
    if (rows.length === 0) {
      replace(found, next
        ? empty("Nothing found yet", "There is more of the record before that.")
        : input.value || since ? empty("Nothing found", "No recorded session has all of that. Fewer words, or a longer time, find more.") : empty("The record is empty", "Every request through the gateway is listed here, refused ones as well."),
      reached, rest);
      return;
    }
    replace(found, table(rows, {}), reached, rest);
    if (at) rest?.focus?.();
  }

  return {
    box,
    open() { if (!asked) { asked = true; look(); } },
    key(event) {
      if (typing(event)) return false;
      if (event.key === "/") {
        input.focus();
        input.select();
        return true;
      }
      const by = direction(event);
      return by ? step(found, by) : false;
    },
  };
}

// What an exchange was, in one line.
function what(row) {
  if (row.statement) return row.statement.replace(/\s+/g, " ").slice(0, 200);
  return [row.method, row.path].filter(Boolean).join(" ") || row.protocol || "";
}

function verdict(row) {
  if (row.refusal) return badge(row.refusal, "denied");
  if (!row.decision) return h("span", { class: "dim" }, "\u2014");
  return badge(row.decision === "hold" ? "held" : row.decision, { permit: "approved", deny: "denied", hold: "pending" }[row.decision]);
}

// Rows of exchanges; each opens the whole one.
export function table(rows, { running, waiting }) {
  const link = (row) => `#/record/${row.id}?start=${row.start}`;
  const held = (row) => waiting?.has(row.id);
  return h("div", { class: "rows", role: "table", "aria-label": running ? "Running exchanges" : "Recorded exchanges" },
    h("div", { class: "row row-head", role: "row" }, [running ? "For" : "Time", "Caller", "Resource", "What", "Decision", "Rule", "Status", "In / out"].map((name) => h("span", { role: "columnheader" }, name))),
    rows.map((row) => h("a", { class: "row", role: "row", href: link(row), "data-item": row.id },
      h("span", { role: "cell", class: "c-time" }, running ? when(row.start, "for") : when(row.start, "both")),
      h("span", { role: "cell", class: "c-who" }, row.sub ? plain(row.sub) : h("span", { class: "dim" }, "unknown"), row.node && h("span", { class: "dim" }, " ", plain(row.node))),
      h("span", { role: "cell", class: "c-res" }, plain(row.resource ?? "\u2014")),
      h("span", { role: "cell", class: "c-what mono" }, plain(what(row))),
      h("span", { role: "cell", class: "c-dec" }, held(row) ? badge("waiting", "pending") : verdict(row)),
      h("span", { role: "cell", class: "c-rule" }, plain(row.rule ?? "")),
      h("span", { role: "cell", class: "c-num" }, row.status ?? row.sqlstate ?? (row.rows !== null && row.rows !== undefined ? `${row.rows} rows` : "")),
      h("span", { role: "cell", class: "c-num" }, `${bytes(row.bytes_in)} / ${bytes(row.bytes_out)}`))));
}

function exchange(id, start) {
  const box = h("div", { class: "page" });
  const show = h("div", { class: "stack" });
  let play = null;
  let closed = false;
  const address = `/api/v1/sessions/${id}${start ? `?start=${encodeURIComponent(start)}` : ""}`;
  replace(box, h("a", { class: "back", href: "#/record" }, icon("back"), "Record"), show);
  load();

  async function load() {
    replace(show, h("p", { class: "dim pad" }, "Reading the record\u2026"));
    try {
      const found = await get(address);
      if (!closed) draw(found);
    } catch (error) {
      if (closed || error.status === 401) return;
      replace(show, error.status === 404 ? empty("It is not in the record", error.message) : failed(error, load));
    }
  }

  function draw({ session: row, facts: told, request, response, transcript, cut }) {
    play = player(id, start ?? row.start, row.protocol);
    const fact = (name) => told.map((one) => one.fields[name]).find((value) => value !== undefined);
    replace(show,
      h("header", { class: "head" },
        h("h1", null, h("span", { class: "mono" }, plain(what(row).slice(0, 120)) || "Session")),
        h("div", { class: "tags" }, verdict(row), row.ending && badge(row.ending, row.ending === "whole" ? "" : "pending"), row.masked > 0 && badge(`${row.masked} masked`, "wide"), h("span", { class: "dim" }, when(row.start, "both")))),
      facts([
        ["Caller", row.sub && h("span", null, plain(row.sub), h("span", { class: "dim" }, " of ", plain(row.iss)))],
        ["Client", row.client_id],
        ["Acting for it", [...row.actors].reverse().join(" \u2192 ")],
        ["Graph node", row.node && h("span", { class: "mono" }, plain(row.node))],
        ["Run", row.run && h("span", { class: "mono" }, plain(row.run))],
        ["Thread", row.thread && h("span", { class: "mono" }, plain(row.thread))],
        ["Resource", row.resource && `${row.resource} (${row.protocol ?? "?"} by ${row.listener ?? "?"})`],
        ["Rule", row.rule && h("span", { class: "mono" }, plain(row.rule))],
        ["Credential", row.credential],
        ["Model", row.model],
        ["Status", row.status ?? row.sqlstate],
        ["Rows", row.rows],
        ["From", row.peer],
        ["Bytes", `${bytes(row.bytes_in)} in, ${bytes(row.bytes_out)} out`],
        ["Not recorded", row.gap_entries > 0 ? `${row.gap_entries} entries, ${bytes(row.gap_bytes)}` : null],
        ["Id", h("span", { class: "mono" }, row.id)],
      ]),
      timings(fact),
      cut && h("p", { class: "warn pad" }, "It is longer than what is shown here: `weirgate sessions show` tells all of it."),
      play.box,
      transcript
        ? h("section", null, h("h2", null, "Statements and answers"), code(transcript.text, lines, { label: "As psql would show it" }), transcript.cut && h("p", { class: "dim pad" }, "Cut here."))
        : h("div", { class: "sides" }, side("Request", request), side("Answer", response)),
      h("section", null, h("h2", null, "What the gateway did"), h("ol", { class: "steps" }, told.map(noted))));
  }

  return {
    id, box,
    key: (event) => play?.key(event) ?? false,
    close() { closed = true; play?.close(); },
  };
}

// Statements in colour, answers as they are.
function lines(text) {
  return text.split(/(?<=\n)/).flatMap((line) => (/^[=-]> /.test(line) ? [line.slice(0, 3), ...sql(line.slice(3))] : marked(line)));
}

function side(name, { head: top, text, hex, bytes: len, cut, masked }) {
  const nothing = !top && len === 0;
  return h("section", null,
    h("h2", null, name, masked && badge("masked", "wide")),
    nothing && h("p", { class: "dim" }, "Nothing is recorded of it."),
    top && code(top, head, { label: "Head" }),
    len > 0 && (text !== null && text !== undefined ? code(text, body, { label: `Body, ${bytes(len)}` }) : code(hex.replace(/(.{2})(?=.)/g, "$1 "), null, { label: `${bytes(len)} that are no text; the first` })),
    cut && h("p", { class: "dim pad" }, "Cut here."));
}

const SPANS = [["decide_ns", "Decided"], ["connect_ns", "Connected"], ["first_byte_ns", "First byte"], ["total_ns", "Whole"]];

function timings(fact) {
  const known = SPANS.map(([name, text]) => [text, fact(name)]).filter(([, value]) => typeof value === "number");
  if (known.length === 0) return null;
  return h("div", { class: "levels" }, known.map(([text, ns]) => h("div", { class: "level" }, h("span", { class: "dim" }, text), h("strong", null, duration(ns)))));
}

export function duration(ns) {
  if (ns < 1e6) return `${(ns / 1e3).toFixed(ns < 1e5 ? 1 : 0)} \u00b5s`;
  if (ns < 1e9) return `${(ns / 1e6).toFixed(ns < 1e8 ? 1 : 0)} ms`;
  return `${(ns / 1e9).toFixed(2)} s`;
}

function noted(one) {
  return h("li", null,
    h("span", { class: "at mono" }, `+${one.at_ms.toFixed(1)} ms`), h("strong", null, one.kind.replaceAll("_", " ")),
    h("dl", { class: "inline" }, Object.entries(one.fields).map(([name, value]) => h("div", null, h("dt", null, plain(name)),
      h("dd", { class: "mono" }, marked(plain(Array.isArray(value) ? value.join(", ") : name.endsWith("_ns") && name !== "wall_ns" && name !== "mono_ns" ? duration(value) : value)))))));
}
