// The keyboard, dialogs, and the list of keys.

import { h } from "./dom.js";

const KEYS = [
  ["1 2 3 4", "Approvals, live, record, charts"],
  ["j k or \u2193 \u2191", "Down and up in a list"],
  ["Enter", "Open what is chosen"],
  ["a", "Approve what is open, after a confirmation"],
  ["d", "Deny what is open, after a confirmation"],
  ["r", "Revoke or review what is open"],
  ["/", "Search, in the record"],
  ["Space", "Play and pause, in a replay"],
  ["Esc", "Close, or back to the list"],
  ["?", "This list"],
];

export function busy() {
  return document.querySelector("dialog[open]") !== null;
}

// Whether a key is meant for what is being typed into.
export function typing(event) {
  const at = event.target;
  return event.ctrlKey || event.metaKey || event.altKey || (at instanceof HTMLElement && at.matches("input, textarea, select, [contenteditable]"));
}

// Moves to the next or the one before of a list's links. Returns whether there was one.
export function step(list, by) {
  const all = [...list.querySelectorAll("[data-item]")];
  if (all.length === 0) return false;
  let at = all.indexOf(document.activeElement);
  if (at < 0) at = all.findIndex((item) => item.getAttribute("aria-current") === "true");
  const next = at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + by));
  all[next].focus();
  all[next].scrollIntoView({ block: "nearest" });
  return true;
}

export function direction(event) {
  if (event.key === "j" || event.key === "ArrowDown") return 1;
  if (event.key === "k" || event.key === "ArrowUp") return -1;
  return 0;
}

// Asks; `content` is shown between title and buttons. Resolves to whether it was confirmed; `check`
// may say why not yet.
export function ask({ title, content, confirm, kind, check }) {
  return new Promise((resolve) => {
    const wrong = h("p", { class: "wrong", role: "alert" });
    const before = document.activeElement;
    const dialog = h("dialog", { class: "ask", "aria-label": title },
      h("form", { method: "dialog", onsubmit(event) {
        event.preventDefault();
        const why = check?.();
        if (why) {
          wrong.textContent = why;
          return;
        }
        close(true);
      } },
      h("h2", null, title), content, wrong,
      h("div", { class: "actions" },
        h("button", { type: "button", onclick: () => close(false) }, "Cancel"),
        h("button", { type: "submit", class: kind ?? "primary" }, confirm))));
    let done = false;
    function close(answer) {
      if (done) return;
      done = true;
      dialog.close();
      dialog.remove();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
      resolve(answer);
    }
    dialog.addEventListener("cancel", (event) => { event.preventDefault(); close(false); });
    dialog.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) dialog.querySelector("form").requestSubmit();
    });
    document.body.append(dialog);
    dialog.showModal();
    (dialog.querySelector("textarea") ?? dialog.querySelector("button[type=submit]")).focus();
  });
}

export function help() {
  const dialog = h("dialog", { class: "ask keys", "aria-label": "Keys" },
    h("form", { method: "dialog" },
      h("h2", null, "Keys"),
      h("dl", { class: "keylist" }, KEYS.map(([keys, what]) => h("div", null, h("dt", null, keys.split(" ").map((key) => (key === "or" ? " or " : h("kbd", null, key)))), h("dd", null, what)))),
      h("div", { class: "actions" }, h("button", { type: "submit", class: "primary" }, "Close"))));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
