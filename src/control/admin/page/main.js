// The page: which view is open, who is signed in, and what comes by itself.

import { listen, post, whoami } from "./api.js";
import * as approvals from "./approvals.js";
import * as charts from "./charts.js";
import { empty, failed, h, icon, plain, replace } from "./dom.js";
import { busy, help, typing } from "./keys.js";
import * as live from "./live.js";
import * as record from "./record.js";

const VIEWS = [
  { id: "approvals", name: "Approvals", view: approvals, all: true },
  { id: "live", name: "Live", view: live },
  { id: "record", name: "Record", view: record },
  { id: "charts", name: "Charts", view: charts },
];

const root = document.getElementById("view");
const tabs = document.getElementById("tabs");
const tools = document.getElementById("tools");
const light = h("span", { class: "light", role: "img" });
const linked = /^\/approvals\/([0-9a-f]{32})$/.exec(location.pathname);
// What a signed link brought along, for the request that it is about; over a sign-in as well.
const KEPT = `weirgate-link-${linked?.[1]}`;
if (linked && location.search.length > 1) sessionStorage.setItem(KEPT, location.search.slice(1));
const app = {
  me: null,
  count(pending) {
    waiting = pending;
    document.title = pending > 0 ? `(${pending}) Weirgate` : "Weirgate";
    drawTabs();
  },
  // The answer that a link has ready.
  linked(id) {
    const query = linked?.[1] === id ? sessionStorage.getItem(KEPT) : null;
    return query && new URLSearchParams(query).get("vote");
  },
  // The link of a vote, which counts once, as the vote that it is for.
  link(id, vote) {
    if (this.linked(id) !== vote) return {};
    const link = sessionStorage.getItem(KEPT);
    sessionStorage.removeItem(KEPT);
    return { link };
  },
};
let current = null;
let waiting = 0;
let stop = null;

function mine() {
  return VIEWS.filter((one) => one.all || app.me?.viewer);
}

function drawTabs() {
  const at = place();
  replace(tabs, app.me === null ? null : mine().map((one) => h("a", { href: `#/${one.id}`, "aria-current": one.id === at.view ? "page" : null }, icon(one.id), h("span", null, one.name),
    one.id === "approvals" && waiting > 0 && h("span", { class: "count", "aria-label": `${waiting} waiting` }, waiting))));
}

function drawTools() {
  const theme = document.documentElement.dataset.theme;
  const dark = theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  replace(tools,
    app.me && light,
    h("button", { type: "button", class: "round", title: dark ? "Light theme" : "Dark theme", "aria-label": dark ? "Light theme" : "Dark theme", onclick() { choose(dark ? "light" : "dark"); } }, icon(dark ? "sun" : "moon")),
    h("button", { type: "button", class: "round", title: "Keys (?)", "aria-label": "Keys", onclick: help }, icon("help")),
    app.me && h("span", { class: "me", title: plain(`${app.me.sub} of ${app.me.iss}, groups: ${app.me.groups.join(", ") || "none"}`) }, plain(app.me.sub)),
    app.me?.csrf && h("button", { type: "button", class: "round", title: "Sign out", "aria-label": "Sign out", onclick: leave }, icon("out")));
}

function choose(theme) {
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("weirgate-theme", theme);
  } catch {
    // It holds until the page is closed.
  }
  drawTools();
}

function state(word) {
  light.className = `light ${word}`;
  const text = word === "live" ? "Connected: changes appear by themselves" : "Not connected: trying again";
  light.title = text;
  light.setAttribute("aria-label", text);
}

// The view and what is open in it, by the address.
function place() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [view, id] = path.split("/");
  const known = VIEWS.some((one) => one.id === view);
  if (!known) return { view: "approvals", id: linked && !location.hash ? linked[1] : undefined, query: new URLSearchParams() };
  return { view, id: id || undefined, query: new URLSearchParams(query ?? "") };
}

function route() {
  if (app.me === null) return;
  const at = place();
  drawTabs();
  const found = mine().find((one) => one.id === at.view);
  if (current?.id === at.view && current.view.update) {
    current.view.update(at);
    return;
  }
  current?.view.close?.();
  current = null;
  if (!found) {
    replace(root, empty("This view is for viewers", "Your groups are none of [admin] viewers. Approvals that you may decide are open to you."));
    return;
  }
  root.dataset.view = at.view;
  current = { id: at.view, view: found.view.mount(root, at, app) };
  scrollTo(0, 0);
}

async function leave() {
  await post("/sign-out").catch(() => {});
  location.assign("/");
}

function signedOut(problem) {
  stop?.();
  current?.view.close?.();
  current = null;
  app.me = null;
  document.title = "Weirgate";
  drawTabs();
  drawTools();
  const oidc = problem.body.sign_in?.oidc === true;
  const at = place();
  const next = at.view === "approvals" && at.id ? `?next=/approvals/${encodeURIComponent(at.id)}` : "";
  replace(root, h("section", { class: "door" },
    h("h1", null, problem.kind === "session-over" ? "Your session is over" : "Sign in"),
    oidc && [h("p", null, "You are sent to your organisation's sign-in, and come back here."), h("a", { class: "button primary", href: `/sign-in${next}` }, "Sign in")],
    h("p", null, oidc ? "Or by a one-time link, which the command line prints for the token that you have:" : "A one-time link signs this browser in. The command line prints one for the token that you have:"),
    h("pre", { class: "code" }, "weirgate approvals open --admin ", location.origin),
    h("p", { class: "dim" }, "The token is read from WEIRGATE_TOKEN, or from --token-file. It stays on your machine: the browser gets a cookie of its own.")));
}

async function start() {
  drawTools();
  try {
    app.me = await whoami();
  } catch (error) {
    if (error.status !== 401) replace(root, failed(error, start));
    return;
  }
  drawTools();
  state("lost");
  stop?.();
  let lost = false;
  stop = listen({
    event: (name, data) => name !== "hello" && current?.view.event?.(name, data),
    state(word) {
      state(word);
      // What came meanwhile was missed.
      if (word === "live" && lost) current?.view.refresh?.();
      lost = word !== "live";
    },
  });
  route();
}

document.addEventListener("signed-out", (event) => signedOut(event.detail));
window.addEventListener("hashchange", route);
window.addEventListener("keydown", (event) => {
  if (busy() || event.defaultPrevented) return;
  if (!typing(event)) {
    const number = ["1", "2", "3", "4"].indexOf(event.key);
    if (event.key === "?") {
      help();
      event.preventDefault();
      return;
    }
    if (number >= 0 && mine()[number]) {
      location.hash = `#/${mine()[number].id}`;
      return;
    }
  } else if (event.key === "Escape" && event.target instanceof HTMLElement) {
    event.target.blur();
    return;
  }
  if (current?.view.key?.(event)) event.preventDefault();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawTools);
// Beside the stream: what a lost one did not tell.
setInterval(() => { if (!document.hidden && app.me && light.classList.contains("lost")) current?.view.refresh?.(); }, 10_000);

start();
