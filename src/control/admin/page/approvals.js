// The approvals: what waits, what was granted, what has to be looked at, what has ended.

import { get } from "./api.js";
import { badge, empty, failed, h, plain, replace, say } from "./dom.js";
import { direction, step, typing } from "./keys.js";
import { detail } from "./approval.js";
import { when } from "./time.js";

const LISTS = [
  { id: "pending", name: "Waiting", path: "/api/v1/approvals?state=pending", none: ["Nothing waits for a person", "A request that a rule holds appears here by itself, at once."] },
  { id: "grants", name: "Grants", path: "/api/v1/grants", none: ["No grant has uses left", "What was approved and is not used up is listed here, and can be revoked."] },
  { id: "review", name: "To review", path: "/api/v1/approvals?review=owed", none: ["No review is owed", "What was done under a break-glass rule stays here until somebody else has looked at it."] },
  { id: "ended", name: "Ended", path: "/api/v1/approvals?state=denied,expired,cancelled,consumed,revoked", none: ["Nothing has ended yet", "Denied, expired and used requests are listed here, as long as the gateway keeps them."] },
];

export function mount(root, place, app) {
  let shown = "pending";
  let items = new Map();
  let counts = {};
  let open = null;
  let known = null;
  let timer = 0;
  const tabs = h("div", { class: "segments", role: "group", "aria-label": "Lists of approvals" });
  const list = h("div", { class: "list", "aria-label": "Requests" });
  const pane = h("section", { class: "pane", "aria-label": "The chosen request" });
  const box = h("div", { class: "split" }, h("section", { class: "side", "aria-label": "Approvals" }, tabs, list), pane);
  replace(root, box);
  drawTabs();
  load();
  choose(place.id);

  function drawTabs() {
    replace(tabs, LISTS.map((one) => h("button", { type: "button", "aria-pressed": String(one.id === shown), "data-list": one.id, onclick() {
      shown = one.id;
      drawTabs();
      load();
    } }, one.name, counts[one.id] > 0 && h("span", { class: "count" }, counts[one.id]))));
  }

  async function load() {
    const wanted = shown;
    try {
      const [pending, review, here] = await Promise.all([
        get(LISTS[0].path), get(LISTS[2].path),
        wanted === "pending" || wanted === "review" ? null : get(LISTS.find((one) => one.id === wanted).path),
      ]);
      counts = { pending: pending.length, review: review.length };
      app.count(pending.length);
      told(pending);
      if (wanted !== shown) return;
      drawTabs();
      drawList(wanted === "pending" ? pending : wanted === "review" ? review : here);
    } catch (error) {
      if (error.status !== 401) replace(list, failed(error, load));
    }
  }

  // Says what is new, for those who hear the page.
  function told(pending) {
    if (known !== null) {
      const fresh = pending.filter((one) => !known.has(one.id) && !own(one, app.me));
      if (fresh.length > 0) say(fresh.length === 1 ? `New request: ${fresh[0].sub} on ${fresh[0].resource}` : `${fresh.length} new requests`);
    }
    known = new Set(pending.map((one) => one.id));
  }

  function drawList(found) {
    const focused = list.contains(document.activeElement) ? document.activeElement.dataset.item : null;
    items = new Map(found.map((one) => [one.id, one]));
    if (shown === "pending") found.sort((one, other) => one.deadline.localeCompare(other.deadline));
    const none = LISTS.find((one) => one.id === shown).none;
    replace(list, found.length === 0 ? empty(...none) : found.map(row));
    if (focused) list.querySelector(`[data-item="${CSS.escape(focused)}"]`)?.focus();
  }

  function row(one) {
    const waits = one.state === "pending";
    return h("a", { class: "item", href: `#/approvals/${one.id}`, "data-item": one.id, "aria-current": one.id === open?.id ? "true" : null },
      h("span", { class: "item-top" },
        h("strong", { class: "who" }, plain(one.sub)),
        h("span", { class: "dim grow" }, " on ", plain(one.resource)),
        waits ? when(one.deadline, "left") : when(one.ended_at ?? one.requested_at)),
      h("span", { class: "item-what mono" }, plain(first(one.summary))),
      h("span", { class: "item-tags" },
        waits ? null : badge(one.state, one.state),
        own(one, app.me) && badge("yours", "own"),
        one.break_glass && badge("break-glass", "denied"),
        one.review_owed && badge("review owed", "pending"),
        one.scope !== "exact" && badge(`scope: ${one.scope}`, "wide"),
        h("span", { class: "dim" }, plain(one.rule)),
        one.count > 1 && h("span", { class: "dim" }, `${approvals(one)} of ${one.count}`)));
  }

  function choose(id) {
    box.classList.toggle("opened", Boolean(id));
    if (open?.id !== id) {
      open?.close();
      open = id ? detail(pane, id, app, () => load()) : null;
      if (!id) replace(pane, empty("No request is chosen", "Choose one from the list: click, or press j and Enter."));
    }
    for (const item of list.querySelectorAll("[data-item]")) {
      if (item.dataset.item === id) item.setAttribute("aria-current", "true");
      else item.removeAttribute("aria-current");
    }
  }

  function soon() {
    clearTimeout(timer);
    timer = setTimeout(load, 120);
  }

  return {
    update: (place) => choose(place.id),
    event(name, data) {
      soon();
      if (open && (name !== "approvals" || data.id === open.id)) open.refresh();
    },
    refresh() { load(); open?.refresh(); },
    key(event) {
      if (typing(event)) return false;
      const by = direction(event);
      if (by && !(event.key.startsWith("Arrow") && pane.contains(document.activeElement))) return step(list, by);
      if (event.key === "Escape" && open) {
        const id = open.id;
        location.hash = "#/approvals";
        requestAnimationFrame(() => list.querySelector(`[data-item="${CSS.escape(id)}"]`)?.focus());
        return true;
      }
      return open?.key(event) ?? false;
    },
    close() { clearTimeout(timer); open?.close(); },
  };
}

// What the summary is about, in one line: of a statement, what is no note.
function first(summary) {
  const lines = summary.split("\n").map((line) => line.trim()).filter((line) => line && !line.startsWith("--"));
  return (lines[0] ?? summary).slice(0, 160);
}

export function own(one, me) {
  return one.iss === me.iss && one.sub === me.sub;
}

export function approvals(one) {
  return one.votes.filter((vote) => vote.decision === "approve").length;
}
