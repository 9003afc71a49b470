// What runs at this moment.

import { get } from "./api.js";
import { empty, failed, h, plain, replace } from "./dom.js";
import { direction, step, typing } from "./keys.js";
import { table } from "./record.js";
import { when } from "./time.js";

export function mount(root) {
  let timer = 0;
  let closed = false;
  const levels = h("div", { class: "levels" });
  const body = h("div", { class: "pad-0" });
  replace(root, h("div", { class: "page" }, h("h1", null, "Live"), levels, body));
  look();

  async function look() {
    clearTimeout(timer);
    if (!document.hidden) {
      try {
        const [now, pending] = await Promise.all([get("/api/v1/live"), get("/api/v1/approvals?state=pending")]);
        draw(now, new Set(pending.map((one) => one.exchange)));
      } catch (error) {
        if (closed || error.status === 401) return;
        replace(body, failed(error, look));
      }
    }
    if (!closed) timer = setTimeout(look, EVERY);
  }

  function draw(now, waiting) {
    if (closed) return;
    replace(levels, [
      ["Exchanges running", now.sessions.length + (now.more ? "+" : "")],
      ["Waiting for a person", now.pending],
      ["Caller connections", now.connections],
      ["Upstream connections", `${now.upstream_busy} busy, ${now.upstream_idle} idle`],
    ].map(([name, value]) => h("div", { class: "level" }, h("span", { class: "dim" }, name), h("strong", null, value))));
    const focused = body.contains(document.activeElement) ? document.activeElement.dataset.item : null;
    replace(body, now.sessions.length === 0
      ? empty("Nothing runs at the moment", "An exchange is listed from its first byte to its last: calls that wait for an answer, streams, statements, and what a rule holds.")
      : table(now.sessions, { running: true, waiting }),
    now.more && h("p", { class: "dim pad" }, "There are more; the newest are listed."),
    now.reached && h("p", { class: "dim pad" }, "Looked at what began ", when(now.reached), " or later."));
    if (focused) body.querySelector(`[data-item="${CSS.escape(focused)}"]`)?.focus();
  }

  return {
    key(event) {
      const by = typing(event) ? 0 : direction(event);
      return by ? step(body, by) : false;
    },
    refresh: look,
    close() { closed = true; clearTimeout(timer); },
  };
}

const EVERY = 2000;
