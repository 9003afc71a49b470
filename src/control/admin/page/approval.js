// One request: who asks, from where, for what exactly, under which rule; and the decision.

import { get, post } from "./api.js";
import { approvals, own } from "./approvals.js";
import { badge, empty, facts, failed, h, icon, plain, replace, say, toast } from "./dom.js";
import { ask } from "./keys.js";
import { code, marked, message, sql } from "./show.js";
import { lasting, when } from "./time.js";

const SCOPES = {
  exact: "Exactly this, byte for byte",
  shape: "The same statement or request with any other values",
  resource: "Everything on this resource that the rule is about",
  session: "Everything in this session that the rule is about",
};

export function detail(pane, id, app, changed) {
  let one = null;
  let drawn = "";
  let gone = false;
  let folded = false;
  let sending = false;
  // What was seen of the originals, as long as the request is open here.
  let original = null;
  const form = decision();
  const more = h("div", { class: "more" });
  replace(pane, h("p", { class: "dim pad" }, "Loading\u2026"));
  refresh();

  async function refresh() {
    try {
      const found = await get(`/api/v1/approvals/${id}`);
      if (gone) return;
      const first = one === null;
      one = found;
      if (first) aside();
      draw();
    } catch (error) {
      if (gone || error.status === 401) return;
      one = null;
      drawn = "";
      replace(pane, back(), error.status === 404
        ? empty("There is no such request", "It has ended long ago, or it is not yours to see. The record may tell more.", h("a", { class: "button", href: `#/record/${id}` }, "Look in the record"))
        : failed(error, refresh));
    }
  }

  function draw() {
    const now = JSON.stringify([one, original]);
    if (now === drawn) return;
    drawn = now;
    form.update();
    replace(pane, back(), head(), what(), who(), ended(), votes(), looks(), more, one.state === "pending" ? form.box : after());
  }

  function back() {
    return h("a", { class: "back", href: "#/approvals" }, icon("back"), "All requests");
  }

  function head() {
    return h("header", { class: "head" },
      h("h1", null, h("span", { class: "who" }, plain(one.sub)), h("span", { class: "dim" }, one.state === "pending" ? " asks for " : " asked for "), h("span", null, plain(one.resource))),
      h("div", { class: "tags" },
        badge(one.state, one.state), one.break_glass && badge("break-glass", "denied"),
        one.review_owed && badge("review owed", "pending"), own(one, app.me) && badge("yours", "own"),
        one.state === "pending" && h("span", { class: "deadline" }, when(one.deadline, "left")),
        h("span", { class: "dim" }, "asked ", when(one.requested_at, "both")),
        one.node && h("span", { class: "dim" }, "from ", h("span", { class: "mono" }, plain(one.node)))),
      one.reason && h("blockquote", { class: "reason" }, h("span", { class: "dim" }, "The caller's reason: "), marked(one.reason)));
  }

  function who() {
    const chain = [...one.actors].reverse();
    const scope = h("span", null, h("strong", null, SCOPES[one.scope] ?? plain(one.scope)),
      h("span", { class: "dim" }, ` \u2014 ${one.uses === 1 ? "once" : `${one.uses} times`}, within ${lasting(one.ttl_ms)} of the approval`));
    return facts([
      ["Caller", h("span", null, plain(one.sub), h("span", { class: "dim" }, " of ", plain(one.iss)))],
      ["Client", one.client_id],
      ["Acting for it", chain.length > 0 && h("span", null, chain.map((actor, place) => [place > 0 && h("span", { class: "dim" }, " \u2192 "), plain(actor)]))],
      ["Groups", one.groups.join(", ")],
      ["Graph node", one.node && h("span", { class: "mono" }, plain(one.node))],
      ["Run", one.run && h("span", { class: "mono" }, plain(one.run))],
      ["Thread", one.thread && h("span", { class: "mono" }, plain(one.thread))],
      ["Resource", h("span", null, plain(one.resource), h("span", { class: "dim" }, " ", plain(one.protocol)))],
      ["Rule", h("span", null, h("span", { class: "mono" }, plain(one.rule)), h("span", { class: "dim" }, ` policy generation ${one.generation}`))],
      ["Covers", scope],
      ["Credential", one.credential ?? "the resource's own"],
      ["Decided by", one.break_glass ? h("span", null, "nobody beforehand: glass was broken", h("span", { class: "dim" }, ` \u2014 ${plain(one.approvers.join(", "))} review it`)) : h("span", null, plain(one.approvers.join(", ")), h("span", { class: "dim" }, ` \u2014 ${one.count} approval${one.count === 1 ? "" : "s"}${one.distinct_groups ? ", each for another group" : ""}`))],
      ["Exchange", app.me.viewer && /^[0-9a-f]{32}$/.test(one.exchange) ? h("a", { class: "mono", href: `#/record/${one.exchange}?start=${one.requested_at}` }, one.exchange) : h("span", { class: "mono" }, plain(one.exchange))],
    ]);
  }

  function what() {
    const text = original ?? one.summary;
    const how = one.protocol === "postgres" ? sql : message;
    const reveal = one.revealable && original === null && !own(one, app.me) && mine(one.reveal ?? []);
    return h("section", { class: "what" },
      h("div", { class: "what-head" },
        h("h2", null, original === null ? "What it wants to do" : "What it wants to do, with the originals"),
        reveal && h("button", { type: "button", class: "small", onclick: show }, "Reveal originals"),
        original !== null && h("button", { type: "button", class: "small", onclick() { original = null; draw(); } }, "Hide originals")),
      one.summary_cut ? h("p", { class: "wrong" }, "This is only its beginning.") : null,
      code(text, how, { label: one.protocol === "postgres" ? "SQL" : "Request", folded: (is) => { folded = is; } }),
      one.digest && h("p", { class: "digest dim" }, "Digest of what is shown, which goes into the vote: ", h("span", { class: "mono" }, one.digest)));
  }

  async function show() {
    const sure = await ask({
      title: "Reveal the originals?", confirm: "Reveal",
      content: h("p", null, "The values that masks took out are shown to you. That you looked is written into the record, and everybody who opens this request sees it."),
    });
    if (!sure) return;
    try {
      original = (await post(`/api/v1/approvals/${id}/reveal`)).original;
      await refresh();
    } catch (error) {
      toast(error.message, "bad");
    }
  }

  // What comes by itself, and may not be there: the plan of the database, and what was before.
  async function aside() {
    const [plan, before] = await Promise.allSettled([
      one.protocol === "postgres" && one.state === "pending" ? get(`/api/v1/approvals/${id}/estimate`) : null,
      get(`/api/v1/approvals/${id}/before`),
    ]);
    if (gone) return;
    const estimate = plan.value ?? one?.estimate;
    const why = plan.reason?.status === 422 ? plan.reason.message : null;
    replace(more,
      (estimate || why) && h("section", { class: "panel" },
        h("h2", null, "What it would touch"),
        estimate ? [
          h("p", null, h("strong", { class: "big" }, Number(estimate.rows).toLocaleString("en")), ` row${Number(estimate.rows) === 1 ? "" : "s"}, by the database's estimate`, h("span", { class: "dim" }, ` \u2014 cost ${Number(estimate.cost).toLocaleString("en")}`)),
          estimate.plan && h("details", null, h("summary", null, "The plan"), code(plainPlan(estimate.plan), null, { label: "EXPLAIN" })),
        ] : h("p", { class: "dim" }, plain(why))),
      Array.isArray(before.value) && h("section", { class: "panel" },
        h("h2", null, "What this caller had approved before"),
        before.value.length === 0
          ? h("p", { class: "dim" }, "Nothing that the gateway remembers and you may see.")
          : h("ul", { class: "before" }, before.value.map((old) => h("li", null,
            h("a", { href: `#/approvals/${old.id}` },
              h("span", { class: "mono line" }, plain(old.summary_head.split("\n").find((text) => text.trim() && !text.startsWith("--")) ?? "")),
              h("span", { class: "tags" }, badge(old.state, old.state), old.same_operation && badge("the same operation", "approved"),
                h("span", { class: "dim" }, when(old.requested_at), old.votes.length > 0 && [" \u2014 approved by ", plain(old.votes.filter((vote) => vote.decision === "approve").map((vote) => vote.sub).join(", "))])))))))); 
  }

  function votes() {
    if (one.count === 1 && one.votes.length === 0) return null;
    const have = approvals(one);
    return h("section", { class: "panel votes" },
      h("h2", null, "Votes"),
      h("p", null, h("span", { class: "pips", "aria-hidden": "true" }, Array.from({ length: Math.min(one.count, 12) }, (_, at) => h("i", { class: at < have ? "on" : null }))), `${have} of ${one.count} approval${one.count === 1 ? "" : "s"}`),
      one.votes.length > 0 && h("ul", { class: "cast" }, one.votes.map((vote) => h("li", null,
        badge(vote.decision === "approve" ? "approved" : "denied", vote.decision === "approve" ? "approved" : "denied"),
        h("strong", null, plain(vote.sub)), h("span", { class: "dim" }, " ", when(vote.at, "both")),
        vote.reason && h("p", { class: "said" }, plain(vote.reason))))));
  }

  function looks() {
    if (!one.looks?.length) return null;
    return h("p", { class: "dim pad" }, "Originals were looked at by ", one.looks.map((look, at) => [at > 0 && ", ", h("strong", null, plain(look.sub)), " ", when(look.at)]), ".");
  }

  function ended() {
    const by = { caller: "its caller", policy: "the policy", admin_token: "the admin token", person: plain(one.ended_by?.sub) }[one.ended_by?.by];
    return facts([
      ["Good until", one.state === "approved" || one.state === "active" ? when(one.until, "both") : null],
      ["Uses", one.state === "pending" ? null : `${one.used} of ${one.uses}`],
      ["Ended", when(one.ended_at, "both")],
      ["By", by],
      ["Why", one.ended_by?.why],
      ["Reviewed", one.review && h("span", null, h("strong", null, plain(one.review.sub)), " ", when(one.review.at, "both"), one.review.reason && [" \u2014 ", plain(one.review.reason)])],
    ]);
  }

  function after() {
    const grant = one.state === "approved" || one.state === "active";
    if (!grant && !one.review_owed) return null;
    return h("div", { class: "decide" }, h("div", { class: "actions" },
      one.review_owed && h("button", { type: "button", class: "primary", disabled: own(one, app.me), onclick: review }, "Mark as reviewed"),
      grant && h("button", { type: "button", class: "danger", onclick: revoke }, "Revoke")));
  }

  async function review() {
    const reason = reasonField("What you found (optional)");
    const sure = await ask({ title: "Mark as reviewed?", confirm: "Reviewed", content: [h("p", null, "You say that you looked at what was done under the break-glass rule."), reason.box] });
    if (sure) await act("review", { reason: reason.value() }, "Reviewed");
  }

  async function revoke() {
    const reason = reasonField("Why (optional)");
    const sure = await ask({ title: "Revoke this grant?", confirm: "Revoke", kind: "danger", content: [h("p", null, "Unused uses are gone, and what runs under it is cut at once."), reason.box] });
    if (!sure) return;
    try {
      await post("/api/v1/grants/revoke", { id, reason: reason.value() });
      toast("Revoked", "good");
    } catch (error) {
      toast(error.message, "bad");
    }
    refresh();
    changed();
  }

  function mine(groups) {
    return groups.some((group) => app.me.groups.includes(group));
  }

  // Why this person does not decide, where that is known before the gateway is asked.
  function bar() {
    if (own(one, app.me)) return "This is your own request. Somebody else has to decide about it.";
    if (!mine(one.approvers)) return `Only ${one.approvers.join(", ")} can decide about it; your groups are ${app.me.groups.join(", ") || "none"}.`;
    if (one.votes.some((vote) => vote.iss === app.me.iss && vote.sub === app.me.sub)) return "You have voted. It waits for somebody else.";
    return null;
  }

  function decision() {
    const reason = reasonField("Reason");
    const wrong = h("p", { class: "wrong", role: "alert" });
    const yes = h("button", { type: "button", class: "primary", onclick: () => vote(true, false) }, "Approve");
    const no = h("button", { type: "button", class: "danger", onclick: () => vote(false, false) }, "Deny");
    const box = h("div", { class: "decide", role: "group", "aria-label": "Decision" });
    return {
      box, reason, wrong, yes, no,
      update() {
        const why = bar();
        const ready = { approve: "approve", deny: "deny" }[app.linked(id)];
        reason.label(one.reason_required ? "Reason (this rule wants one)" : "Reason (optional)");
        replace(box, why ? h("p", { class: "barred" }, plain(why)) : [ready && h("p", { class: "warn" }, `You came here by a link to ${ready} it. Look at it first; nothing is sent before you press a button.`), reason.box, wrong, h("div", { class: "actions" }, h("p", { class: wide(one) ? "warn grow" : "dim grow" }, h("span", { class: "lead" }, "Approving covers: "), coverage(one)), no, yes)]);
      },
    };
  }

  async function vote(approve, confirmed) {
    if (sending || one?.state !== "pending" || bar()) return;
    const text = form.reason.value();
    form.wrong.textContent = "";
    if (one.reason_required && !text && !confirmed) {
      form.wrong.textContent = "This rule wants a reason.";
      form.reason.focus();
      return;
    }
    if (!confirmed && approve && (wide(one) || folded)) return confirm(true);
    sending = true;
    for (const button of [form.yes, form.no]) button.disabled = true;
    await act(approve ? "approve" : "deny", { digest: one.digest, reason: text, ...app.link(id, approve ? "approve" : "deny") }, approve ? "Approved" : "Denied");
    for (const button of [form.yes, form.no]) button.disabled = false;
    sending = false;
  }

  async function confirm(approve) {
    if (sending || one?.state !== "pending") return;
    const why = bar();
    if (why) {
      toast(why, "bad");
      return;
    }
    const seen = one.digest;
    const reason = reasonField(one.reason_required ? "Reason (this rule wants one)" : "Reason (optional)");
    reason.set(form.reason.value() ?? "");
    const sure = await ask({
      title: approve ? "Approve this request?" : "Deny this request?", confirm: approve ? "Approve" : "Deny", kind: approve ? "primary" : "danger",
      content: [
        h("p", null, h("strong", null, plain(one.sub)), " on ", h("strong", null, plain(one.resource)), ", rule ", h("span", { class: "mono" }, plain(one.rule))),
        approve && h("p", { class: wide(one) ? "warn" : "dim" }, `${coverage(one)}.`),
        approve && folded && h("p", { class: "warn" }, "You have not unfolded all of what it wants to do."),
        reason.box,
      ],
      check: () => (one.reason_required && !reason.value() ? "This rule wants a reason." : null),
    });
    if (!sure || gone) return;
    if (one?.digest !== seen) {
      toast("The request has changed: look at it again.", "bad");
      return;
    }
    form.reason.set(reason.value() ?? "");
    await vote(approve, true);
  }

  async function act(name, body, done) {
    try {
      one = await post(`/api/v1/approvals/${id}/${name}`, body);
      const left = name === "approve" && one.state === "pending" ? `: ${approvals(one)} of ${one.count}` : "";
      toast(`${done}${left}`, name === "deny" ? "" : "good");
      say(`${done}${left}`);
    } catch (error) {
      form.wrong.textContent = plain(error.message);
      toast(error.message, "bad");
    }
    await refresh();
    changed();
  }

  return {
    id, refresh,
    key(event) {
      if (one === null) return false;
      if (event.key === "a" || event.key === "d") {
        confirm(event.key === "a");
        return true;
      }
      if (event.key === "r" && one.review_owed && !own(one, app.me)) review();
      else if (event.key === "r" && (one.state === "approved" || one.state === "active")) revoke();
      else return false;
      return true;
    },
    close() { gone = true; original = null; },
  };
}

// More than the one operation that is shown.
function wide(one) {
  return one.scope !== "exact" || one.uses > 1;
}

function coverage(one) {
  return `${SCOPES[one.scope] ?? plain(one.scope)}, ${one.uses === 1 ? "once" : `up to ${one.uses} times`}, within ${lasting(one.ttl_ms)}`;
}

function plainPlan(plan) {
  return typeof plan === "string" ? plan : JSON.stringify(plan, null, 2);
}

let fields = 0;

function reasonField(text) {
  fields += 1;
  const label = h("label", { for: `reason-${fields}` }, text);
  const area = h("textarea", { id: `reason-${fields}`, rows: "1", maxlength: "1000" });
  return {
    box: h("div", { class: "field" }, label, area),
    // The gateway takes a line.
    value: () => area.value.replace(/\s+/g, " ").trim() || null,
    set: (value) => { area.value = value; },
    label: (value) => { label.textContent = value; },
    focus: () => area.focus(),
  };
}
