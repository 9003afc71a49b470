
"use strict";
const part = (id) => document.getElementById(id);
const query = location.search;
// Out of the address bar and the history, before anything else is done with it.
history.replaceState(null, "", location.pathname);

async function start() {
  const answer = await fetch("callback", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ query }),
  });
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.detail || "The gateway refused it.");
  location.replace("../" + said.next);
}

start().catch((error) => {
  part("say").textContent = error.message;
  part("again").hidden = false;
});
