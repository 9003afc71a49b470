// Drives the page of the admin listener in a real browser. What it needs comes as JSON on stdin; it prints
// a line of JSON for each case: its name, and what went wrong or null.
import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";
import { mkdirSync, readFileSync } from "node:fs";
import assert from "node:assert/strict";

const require = createRequire(import.meta.url);
const { chromium } = require("playwright-core");
const { Client } = require("pg");
const site = JSON.parse(readFileSync(0, "utf8"));
const WAIT = 8000;

const browser = await chromium.launch({
  executablePath: site.chromium,
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-proxy-server"],
});
// What no page may ever do, of all of them.
let wrong = [];
let expected = [];

function watch(page) {
  page.setDefaultTimeout(WAIT);
  page.on("pageerror", (error) => wrong.push(`error in the page: ${error.stack}`));
  page.on("console", (message) => {
    // Told by the answer below, with its status.
    const loading = message.text().startsWith("Failed to load resource");
    if (["error", "warning"].includes(message.type()) && !loading) wrong.push(`console: ${message.text()}`);
  });
  page.on("response", (answer) => {
    const { pathname } = new URL(answer.url());
    if (answer.status() >= 400 && !expected.some(([status, path]) => status === answer.status() && path.test(pathname))) {
      wrong.push(`${answer.status()} of ${pathname}`);
    }
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(site.admin) && !request.url().startsWith("data:")) wrong.push(`asked ${request.url()}`);
  });
}

async function fresh(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  await context.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
  });
  const page = await context.newPage();
  watch(page);
  return page;
}

function link(who) {
  const told = execFileSync(site.binary, ["approvals", "open", "--admin", site.admin, "--json"], {
    env: { ...process.env, WEIRGATE_TOKEN: site.tokens[who] }, encoding: "utf8",
  });
  return JSON.parse(told).url;
}

// A browser of its own, signed in by a one-time link.
async function person(who, options) {
  const page = await fresh(options);
  await page.goto(link(who));
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.locator("#tabs a").first().waitFor();
  return page;
}

// A call that is held, until somebody decides.
function call(who, path, body, fields = {}) {
  const headers = { authorization: `Bearer ${site.tokens[who]}`, "content-type": "application/json", ...fields };
  return fetch(site.api + path, { method: "POST", headers, body: typeof body === "string" ? body : JSON.stringify(body) })
    .then(async (answer) => ({ status: answer.status, text: await answer.text(), id: answer.headers.get("x-request-id") }));
}

async function pending(page, text) {
  const item = page.locator(".list .item", { hasText: text });
  await item.waitFor();
  return item;
}

async function shot(page, name) {
  if (!site.shots) return;
  mkdirSync(site.shots, { recursive: true });
  const before = page.viewportSize();
  for (const theme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: theme });
    for (const [size, width, height] of [["wide", 1440, 900], ["phone", 390, 844]]) {
      await page.setViewportSize({ width, height });
      await page.waitForTimeout(120);
      await page.screenshot({ path: `${site.shots}/${name}-${size}-${theme}.png` });
    }
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize(before);
}

async function gone(promise) {
  await assert.rejects(Promise.race([promise, new Promise((_, no) => setTimeout(() => no(new Error("waits")), 300))]), /waits/);
}

const lea = await person("lea");
const cases = {
  async "who is signed out is told how to sign in"() {
    expected = [[401, /^\/api\//]];
    const page = await fresh();
    await page.goto(site.admin);
    await page.getByText("weirgate approvals open --admin").waitFor();
    assert.equal(await page.locator("#tabs a").count(), 0);
    await shot(page, "door");
    await page.context().close();
  },

  async "a held request appears by itself and its caller is answered after a click"() {
    await lea.getByText("Nothing waits for a person").waitFor();
    await shot(lea, "nothing");
    const answer = call("ana", "/close/17?why=old", { ticket: 17, reply: "Dear cleo@example.com, it is closed.", tags: ["old", "closed"], big: 12345678901234567890n.toString(), deep: { n: 1.50, none: null } }, { "x-weirgate-node": "close_ticket", "x-weirgate-run": "run-7", "x-weirgate-thread": "t-1" });
    const item = await pending(lea, "ana");
    await lea.locator("#said", { hasText: "New request: ana on tickets" }).waitFor({ state: "attached" });
    assert.match(await lea.title(), /^\(1\)/);
    await item.click();
    const pane = lea.locator(".pane");
    for (const text of ["close_ticket", "run-7", "t-1", "ask-first", "Exactly this, byte for byte", "Decided by"]) await pane.getByText(text, { exact: false }).first().waitFor();
    assert.equal(await pane.locator("mark", { hasText: "[EMAIL]" }).count(), 1);
    assert.equal(await pane.getByText("cleo@example.com").count(), 0, "masked");
    assert.match(await pane.locator("pre.code").first().textContent(), /POST \/close\/17\?why=old[^]*"ticket": 17/);
    await shot(lea, "approval");
    // The originals, for who may see them, and who looked is told.
    await pane.getByRole("button", { name: "Reveal originals" }).click();
    await lea.getByRole("dialog").getByRole("button", { name: "Reveal" }).click();
    await pane.getByText("cleo@example.com").waitFor();
    await pane.getByText("Originals were looked at by").waitFor();
    await gone(answer);
    await pane.getByRole("button", { name: "Approve" }).click();
    const { status, text } = await answer;
    assert.deepEqual([status, JSON.parse(text).done], [200, true]);
    await lea.getByText("Nothing waits for a person").waitFor();
    await pane.locator(".badge", { hasText: "consumed" }).waitFor();
  },

  async "a held statement is shown in SQL, with what it would touch"() {
    const client = new Client({ host: "127.0.0.1", port: site.db, user: "x", database: "orders", password: site.tokens.writer, ssl: false });
    await client.connect();
    const deleted = client.query("delete from orders where customer = $1", [7]);
    await (await pending(lea, "will")).click();
    const pane = lea.locator(".pane");
    await pane.locator("h1", { hasText: "orders" }).waitFor();
    const code = pane.locator("pre.code").first();
    assert.equal(await code.locator(".t-alarm", { hasText: "delete" }).count(), 1);
    assert.match(await code.textContent(), /'?7'?[^]*delete from orders where customer = \$1/);
    await pane.getByText("What it would touch").waitFor();
    await pane.getByText(/rows?, by the database's estimate/).waitFor();
    await shot(lea, "statement");
    await pane.getByRole("button", { name: "Approve" }).click();
    assert.equal((await deleted).rowCount, 5);
    await client.end();
  },

  async "a denial ends it, and its reason is kept"() {
    const answer = call("ana", "/drop", { all: true });
    await (await pending(lea, "/drop")).click();
    const pane = lea.locator(".pane");
    await pane.getByText("What this caller had approved before").waitFor();
    await pane.locator(".before a").first().waitFor();
    await pane.getByLabel("Reason").fill("not on a Friday");
    await pane.getByRole("button", { name: "Deny" }).click();
    const { status, text } = await answer;
    assert.equal(status, 403);
    assert.match(text, /approval-denied/);
    await pane.getByText("not on a Friday").waitFor();
    await pane.locator(".badge", { hasText: "denied" }).first().waitFor();
  },

  async "all of it is done by keys"() {
    await lea.goto(`${site.admin}/#/live`);
    await lea.keyboard.press("1");
    await lea.getByText("Nothing waits for a person").waitFor();
    const answer = call("ana", "/by-keys", { a: 1 });
    await pending(lea, "/by-keys");
    await lea.keyboard.press("?");
    await lea.getByRole("dialog").getByText("Approve what is open").waitFor();
    await shot(lea, "keys");
    await lea.keyboard.press("Escape");
    await lea.keyboard.press("j");
    await lea.keyboard.press("Enter");
    await lea.locator(".pane h1", { hasText: "ana" }).waitFor();
    await lea.keyboard.press("a");
    await lea.getByRole("dialog").waitFor();
    await lea.keyboard.press("Escape");
    assert.equal(await lea.getByRole("dialog").count(), 0);
    await gone(answer);
    await lea.keyboard.press("a");
    await lea.keyboard.type("by keys");
    await shot(lea, "confirm");
    await lea.keyboard.press("Control+Enter");
    assert.equal((await answer).status, 200);
    await lea.locator(".toast", { hasText: "Approved" }).first().waitFor();
    await lea.keyboard.press("Escape");
    await lea.locator(".pane", { hasText: "No request is chosen" }).waitFor();
  },

  async "two people are needed, and one who is no viewer sees approvals only"() {
    const sam = await person("sam");
    assert.deepEqual(await sam.locator("#tabs a").allInnerTexts(), ["Approvals"]);
    const answer = call("pairs", "/both", { a: 1 });
    await (await pending(lea, "paul")).click();
    await lea.locator(".pane").getByRole("button", { name: "Approve" }).click();
    await lea.getByText("You have voted. It waits for somebody else.").waitFor();
    await lea.locator(".pane .votes", { hasText: "1 of 2 approvals" }).waitFor();
    await shot(lea, "voted");
    await gone(answer);
    await (await pending(sam, "paul")).click();
    await sam.locator(".pane .votes", { hasText: "lea" }).waitFor();
    assert.equal(await sam.locator(".pane a[href^='#/record']").count(), 0, "no way to what is not shown");
    await sam.locator(".pane").getByRole("button", { name: "Approve" }).click();
    assert.equal((await answer).status, 200);
    // What is not for it, is not for it by the address either.
    await sam.goto(`${site.admin}/#/record`);
    await sam.getByText("This view is for viewers").waitFor();
    expected = [[403, /^\/api\/v1\/(sessions|live|charts)/]];
    for (const path of ["sessions", "live", "charts"]) {
      assert.equal(await sam.evaluate((path) => fetch(`/api/v1/${path}`).then((answer) => answer.status), path), 403);
    }
    // Nor does it hear of what it may not see.
    await sam.goto(`${site.admin}/#/approvals`);
    const other = call("ana", "/not-for-sam", {});
    await pending(lea, "/not-for-sam");
    await sam.waitForTimeout(400);
    assert.equal(await sam.locator(".list .item").count(), 0);
    await lea.locator(".list .item", { hasText: "/not-for-sam" }).click();
    await lea.locator(".pane h1", { hasText: "ana" }).waitFor();
    await lea.locator(".pane").getByRole("button", { name: "Deny" }).click();
    await other;
    await sam.context().close();
  },

  async "a reason that the rule wants is asked for"() {
    const answer = call("reasons", "/why", {});
    await (await pending(lea, "rosa")).click();
    const pane = lea.locator(".pane");
    await pane.getByRole("button", { name: "Approve" }).click();
    await pane.getByText("This rule wants a reason.").waitFor();
    await gone(answer);
    await pane.getByLabel("Reason").fill("ticket 4711");
    await pane.getByRole("button", { name: "Approve" }).click();
    assert.equal((await answer).status, 200);
    await pane.getByText("ticket 4711").waitFor();
  },

  async "nobody decides about an own request"() {
    const olga = await person("own");
    const answer = call("own", "/mine", {});
    await (await pending(olga, "olga")).click();
    await olga.getByText("This is your own request. Somebody else has to decide about it.").waitFor();
    assert.equal(await olga.locator(".pane").getByRole("button", { name: "Approve" }).count(), 0);
    await olga.keyboard.press("a");
    await olga.locator(".toast", { hasText: "own request" }).waitFor();
    await shot(olga, "own");
    // Whatever a page shows, the gateway says no.
    expected = [[403, /\/approve$/]];
    const told = await olga.evaluate(async () => {
      const id = location.hash.split("/").pop();
      const me = await fetch("/api/v1/me").then((answer) => answer.json());
      const { digest } = await fetch(`/api/v1/approvals/${id}`).then((answer) => answer.json());
      const answer = await fetch(`/api/v1/approvals/${id}/approve`, { method: "POST", headers: { "content-type": "application/json", "x-weirgate-csrf": me.csrf }, body: JSON.stringify({ digest }) });
      return [answer.status, (await answer.json()).detail];
    });
    assert.deepEqual(told, [403, "Nobody decides about a request that is their own."]);
    await (await pending(lea, "olga")).click();
    await lea.locator(".pane h1", { hasText: "olga" }).waitFor();
    await lea.locator(".pane").getByRole("button", { name: "Approve" }).click();
    assert.equal((await answer).status, 200);
    await olga.context().close();
  },

  async "a wide grant is confirmed, listed and revoked"() {
    const answer = call("wide", "/one", {});
    await (await pending(lea, "wim")).click();
    const pane = lea.locator(".pane");
    await pane.getByRole("button", { name: "Approve" }).click();
    const dialog = lea.getByRole("dialog");
    await dialog.getByText("Everything on this resource that the rule is about, up to 3 times, within 5 minutes.").waitFor();
    await shot(lea, "wide");
    await dialog.getByRole("button", { name: "Cancel" }).click();
    await gone(answer);
    await pane.getByRole("button", { name: "Approve" }).click();
    await dialog.getByRole("button", { name: "Approve" }).click();
    assert.equal((await answer).status, 200);
    assert.equal((await call("wide", "/two", {})).status, 200, "another use");
    await lea.getByRole("button", { name: "Grants" }).click();
    await (await pending(lea, "wim")).click();
    await pane.getByText("2 of 3").waitFor();
    await shot(lea, "grant");
    await pane.getByRole("button", { name: "Revoke" }).click();
    await dialog.getByRole("button", { name: "Revoke" }).click();
    await pane.locator(".badge", { hasText: "revoked" }).first().waitFor();
    await lea.getByText("No grant has uses left").waitFor();
    const again = call("wide", "/three", {});
    await lea.getByRole("button", { name: "Waiting" }).click();
    await (await pending(lea, "/three")).click();
    await pane.getByText("asks for").waitFor();
    await pane.getByRole("button", { name: "Deny" }).click();
    assert.equal((await again).status, 403);
  },

  async "what was done under break-glass is reviewed"() {
    const { status } = await call("oncall", "/fire", {}, { "x-weirgate-reason": "pager 7" });
    assert.equal(status, 200);
    await lea.getByRole("button", { name: /To review/ }).click();
    await (await pending(lea, "otto")).click();
    const pane = lea.locator(".pane");
    await pane.getByText("pager 7").waitFor();
    await shot(lea, "review");
    await pane.getByRole("button", { name: "Mark as reviewed" }).click();
    await lea.getByRole("dialog").getByLabel("What you found").fill("it was right");
    await lea.getByRole("dialog").getByRole("button", { name: "Reviewed" }).click();
    await pane.getByText("it was right").waitFor();
    await lea.getByText("No review is owed").waitFor();
    await lea.getByRole("button", { name: "Ended" }).click();
    await lea.locator(".list .item").nth(3).waitFor();
    await shot(lea, "ended");
    await lea.getByRole("button", { name: "Waiting" }).click();
  },

  async "a link to a request opens it"() {
    const answer = call("ana", "/linked", {});
    const href = await (await pending(lea, "/linked")).getAttribute("href");
    const tom = await person("tom");
    // By a link that somebody else made up: it opens the request, and the vote that it has ready does not count.
    const made = `vote=approve&h=ops&n=${"a".repeat(22)}&e=4000000000&s=${"b".repeat(43)}`;
    await tom.goto(`${site.admin}/approvals/${href.split("/").pop()}?${made}`);
    await tom.locator(".pane h1", { hasText: "ana" }).waitFor();
    await tom.getByText("You came here by a link to approve it.").waitFor();
    await gone(answer);
    expected = [[403, /\/approve$/]];
    await tom.locator(".pane").getByRole("button", { name: "Approve" }).click();
    await tom.locator(".toast.bad", { hasText: "link" }).waitFor();
    await gone(answer);
    // Without it the person decides as any.
    await tom.locator(".pane").getByRole("button", { name: "Approve" }).click();
    assert.equal((await answer).status, 200);
    // Signed out, it is over in this browser, and the gateway knows it no more.
    expected = [[401, /^\/api\//]];
    await tom.getByRole("button", { name: "Sign out" }).click();
    await tom.getByText("weirgate approvals open --admin").waitFor();
    await tom.context().close();
  },

  async "the page says when it is cut off, and catches up"() {
    const page = await person("lea");
    const light = page.locator(".light");
    await page.locator(".light.live").waitFor();
    await page.route("**/api/v1/events", (route) => route.abort());
    await page.reload();
    await page.locator(".light.lost").waitFor();
    assert.match(await light.getAttribute("aria-label"), /trying again/);
    wrong = wrong.filter((one) => !one.includes("ERR_FAILED"));
    const answer = call("ana", "/missed", {});
    await page.unroute("**/api/v1/events");
    await page.locator(".light.live").waitFor();
    await (await pending(page, "/missed")).click();
    await page.locator(".pane").getByRole("button", { name: "Approve" }).click();
    assert.equal((await answer).status, 200);
    await page.context().close();
  },

  async "what runs is listed while it runs"() {
    const answer = call("stream", "/stream", { say: Array.from({ length: 40 }, (_, at) => `word-${at}`), pause: 0.1 });
    const held = call("ana", "/held-and-listed", {});
    await lea.goto(`${site.admin}/#/live`);
    const row = lea.locator(".row", { hasText: "/stream" });
    await row.waitFor();
    await lea.locator(".row", { hasText: "/held-and-listed" }).waitFor();
    await shot(lea, "live");
    assert.equal((await answer).status, 200);
    await row.waitFor({ state: "detached" });
    await lea.goto(`${site.admin}/#/approvals`);
    await (await pending(lea, "/held-and-listed")).click();
    await lea.locator(".pane h1", { hasText: "ana" }).waitFor();
    await lea.locator(".pane").getByRole("button", { name: "Deny" }).click();
    await held;
  },

  async "the record is searched, and an exchange is shown whole and replayed"() {
    await call("stream", "/stream", { say: ["write", "to", "cleo@example.com", "please"], pause: 0.15 });
    await lea.goto(`${site.admin}/#/record`);
    await lea.locator(".row", { hasText: "/stream" }).first().waitFor();
    await shot(lea, "record");
    const box = lea.getByLabel("Search the record");
    await lea.keyboard.press("/");
    await box.fill("caller:ana /drop");
    await lea.keyboard.press("Enter");
    await lea.locator("a.row", { hasText: "/drop" }).waitFor();
    await lea.waitForFunction(() => document.querySelectorAll("a.row").length === 1);
    await box.fill("decision:permit resource:tickets caller:stan stream");
    await lea.keyboard.press("Enter");
    await lea.waitForFunction(() => document.querySelectorAll("a.row").length === 2);
    await box.fill("no-such-word-anywhere");
    await lea.keyboard.press("Enter");
    await lea.getByText("Nothing found").waitFor();
    await shot(lea, "record-nothing");
    expected = [[400, /sessions$/]];
    await box.fill("since:nonsense");
    await lea.keyboard.press("Enter");
    await lea.getByText("A time is like").waitFor();
    await box.fill("caller:stan");
    await lea.keyboard.press("Enter");
    await lea.locator("a.row").first().click();
    await lea.getByRole("heading", { name: "What the gateway did" }).waitFor();
    const text = await lea.locator("main").innerText();
    assert.match(text, /data: \{"word": "please"\}/);
    assert.ok(text.includes("[EMAIL]") && !text.includes("cleo@example.com"), "as recorded, which is masked");
    await shot(lea, "session");
    // Played, it takes its time; what was said last comes last.
    await lea.getByRole("button", { name: "Replay with timing" }).click();
    const screen = lea.locator(".screen");
    await screen.getByText("write").first().waitFor();
    const started = Date.now();
    await screen.getByText("please").last().waitFor();
    await screen.getByText("ending=whole").waitFor();
    assert.ok(Date.now() - started < 3000, "pauses are as long as they were");
    await lea.getByLabel("Speed").selectOption("0.25");
    await lea.getByRole("button", { name: "From the beginning" }).click();
    await screen.getByText("write").first().waitFor();
    await lea.getByRole("button", { name: "Pause" }).click();
    const paused = await screen.innerText();
    await lea.waitForTimeout(300);
    assert.equal(await screen.innerText(), paused, "a pause is a pause");
    assert.ok(!paused.includes("ending=whole"));
  },

  async "statements of a database are shown and replayed"() {
    await lea.goto(`${site.admin}/#/record`);
    const box = lea.getByLabel("Search the record");
    await box.fill("resource:orders customers");
    await lea.keyboard.press("Enter");
    await lea.locator("a.row", { hasText: "select id, name" }).first().click();
    await lea.getByRole("heading", { name: "Statements and answers" }).waitFor();
    const shown = await lea.locator("pre.code").first().innerText();
    assert.match(shown, /=> select id, name, email as "<b onclick=hit\(\)>bold<\/b>" from customers where id < 4[^]*name 1[^]*SELECT 3/);
    assert.ok(!shown.includes("c1@example.com"), "masked");
    await shot(lea, "session-sql");
    await lea.getByRole("button", { name: "Replay with timing" }).click();
    const screen = lea.locator(".screen");
    await screen.getByText("SELECT 3").waitFor();
    assert.match(await screen.innerText(), /name 3/);
    await lea.getByRole("button", { name: "From the beginning" }).click();
    await screen.getByText("SELECT 3").waitFor();
    await shot(lea, "replay");
  },

  async "what a caller writes is text wherever it is shown"() {
    const evil = site.evil;
    const answer = call("evil", `/x${encodeURIComponent(evil)}`, { note: evil, "</pre><script>hit()</script>": "\u202edesrever\u200b" }, { "x-weirgate-node": evil, "x-weirgate-run": "\"><svg onload=hit()>", "x-weirgate-reason": evil });
    await lea.goto(`${site.admin}/#/approvals`);
    await (await pending(lea, evil)).click();
    const pane = lea.locator(".pane");
    await pane.locator("h1", { hasText: evil }).waitFor();
    await pane.locator(".reason", { hasText: evil }).waitFor();
    assert.ok((await pane.locator("pre.code").first().innerText()).includes("</pre><script>hit()</script>"));
    assert.ok(await pane.locator(".odd", { hasText: "U+202E" }).count() > 0, "what turns text around is told");
    await pane.getByLabel("Reason").fill(evil);
    await shot(lea, "evil");
    await pane.getByRole("button", { name: "Approve" }).click();
    assert.equal((await answer).status, 200);
    await pane.getByText(evil).nth(2).waitFor();
    await lea.goto(`${site.admin}/#/record`);
    await lea.locator("a.row", { hasText: evil }).first().click();
    await lea.getByRole("heading", { name: "What the gateway did" }).waitFor();
    assert.ok((await lea.locator("main").innerText()).includes(evil));
    await lea.getByRole("button", { name: "Replay with timing" }).click();
    await lea.locator(".screen", { hasText: "whole" }).waitFor();
    assert.deepEqual(await lea.evaluate(() => [globalThis.hit, document.querySelectorAll("main img, main script, main b").length]), [undefined, 0]);
    await lea.goto(`${site.admin}/#/record`);
    await lea.getByLabel("Search the record").fill("resource:orders bold");
    await lea.keyboard.press("Enter");
    await lea.locator("a.row", { hasText: "<b onclick=hit()>" }).first().waitFor();
    assert.deepEqual(await lea.evaluate(() => [globalThis.hit, document.querySelectorAll("main b").length]), [undefined, 0]);
  },

  async "charts are drawn"() {
    await lea.goto(`${site.admin}/#/charts`);
    await lea.locator("svg.chart path.line").first().waitFor({ timeout: 15_000, state: "attached" });
    assert.equal(await lea.locator(".card").count(), 6);
    await lea.getByLabel("Stage").selectOption("decide");
    await shot(lea, "charts");
  },

  async "nothing is wider than a phone, light or dark"() {
    const held = call("ana", "/narrow", { long: "x".repeat(300), lines: Array.from({ length: 40 }, (_, at) => at) });
    await lea.goto(`${site.admin}/#/approvals`);
    const href = await (await pending(lea, "/narrow")).getAttribute("href");
    await lea.goto(`${site.admin}/#/record`);
    const session = await lea.locator("a.row").first().getAttribute("href");
    const grounds = new Set();
    for (const width of [390, 1440]) {
      await lea.setViewportSize({ width, height: 844 });
      for (const hash of ["#/approvals", href, "#/live", "#/record", session, "#/charts"]) {
        await lea.goto(`${site.admin}/${hash}`);
        await lea.waitForTimeout(250);
        const widest = await lea.evaluate(() => Math.max(document.documentElement.scrollWidth, document.body.scrollWidth));
        assert.ok(widest <= width, `${hash} is ${widest} wide at ${width}`);
      }
    }
    const ground = () => lea.evaluate(() => getComputedStyle(document.body).backgroundColor);
    for (const colorScheme of ["light", "dark"]) {
      await lea.emulateMedia({ colorScheme });
      grounds.add(await ground());
    }
    assert.equal(grounds.size, 2, "the system's choice");
    await lea.getByRole("button", { name: "Light theme" }).click();
    assert.ok(grounds.has(await ground()) && (await ground()) === [...grounds][0], "and that of the person");
    await lea.reload();
    assert.equal(await ground(), [...grounds][0], "which is kept");
    await lea.goto(`${site.admin}/${href}`);
    await lea.locator(".pane pre.folded").waitFor();
    await shot(lea, "long");
    await lea.locator(".pane").getByRole("button", { name: "Approve" }).click();
    await lea.getByRole("dialog").getByText("You have not unfolded all").waitFor();
    await lea.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
    await lea.locator(".pane").getByRole("button", { name: "Deny" }).click();
    await held;
  },
};

for (const [name, run] of Object.entries(cases)) {
  const started = Date.now();
  [wrong, expected] = [[], []];
  let error = null;
  try {
    await run();
    await lea.waitForTimeout(30);
    if (wrong.length > 0) error = wrong.join("\n");
  } catch (failure) {
    error = `${failure.stack}\n${wrong.join("\n")}`;
    if (site.shots) await lea.screenshot({ path: `${site.shots}/failed-${name.slice(0, 30).replaceAll(" ", "-")}.png` }).catch(() => {});
  }
  console.error(`${name}: ${Date.now() - started} ms`);
  console.log(JSON.stringify({ case: name, error }));
}
await browser.close();
