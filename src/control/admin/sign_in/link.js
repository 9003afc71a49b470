
"use strict";
const part = (id) => document.getElementById(id);
const link = location.hash.slice(1);
// Out of the address bar and the history, before anything else is done with it.
history.replaceState(null, "", location.pathname);

async function ask(path) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ link }),
  });
  const said = answer.status === 204 ? {} : await answer.json();
  if (!answer.ok) throw new Error(said.detail || "The gateway refused it.");
  return said;
}

function fail(error) {
  part("say").textContent = error.message;
  for (const id of ["who", "warn", "go"]) part(id).hidden = true;
}

async function start() {
  if (!link) throw new Error("There is no link in the address: make one with `weirgate approvals open`.");
  const who = await ask("link/look");
  part("say").textContent = "This browser will be signed in as";
  part("sub").textContent = who.sub;
  part("iss").textContent = who.iss;
  for (const id of ["who", "warn", "go"]) part(id).hidden = false;
  part("go").addEventListener("click", async () => {
    part("go").disabled = true;
    try {
      await ask("link");
      location.replace("../");
    } catch (error) {
      fail(error);
    }
  }, { once: true });
}

start().catch(fail);
