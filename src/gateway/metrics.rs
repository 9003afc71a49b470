//! `/metrics`: what the workers, their sessions and the drain count.
//!
//! Each worker writes its own numbers and nobody else does; they are added up here, when somebody
//! asks. Levels are told by worker, so that one that is behind its siblings shows.

use super::Live;
use crate::control::metrics::{Horizon, Text};
use crate::runtime::{self, BOUNDS, BUFFER_SIZES, Count, Counters, Stage};
use crate::session::{Counts, Refusal};
use std::sync::PoisonError;

pub(super) fn samples(live: &Live, text: &mut Text) {
    sessions(live, text);
    latency(live, text);
    connections(live, text);
    buffers(live, text);
    record(live, text);
    approvals(live, text);
    webhooks(live, text);
}

fn sessions(live: &Live, text: &mut Text) {
    let (snapshot, _) = live.snapshot.load();
    let mut total = Counts::default();
    total.decisions.resize(snapshot.resources.len(), [0; 2]);
    for counts in &live.counts {
        let counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        total.add(&counts);
    }
    text.family("weirgate_requests_total", "counter", "Decided requests.");
    for (view, [permitted, denied]) in snapshot.resources.iter().zip(&total.decisions) {
        for (decision, count) in [("permit", permitted), ("deny", denied)] {
            let labels = [("resource", view.name.as_str()), ("decision", decision)];
            text.sample("weirgate_requests_total", &labels, count);
        }
    }
    text.family("weirgate_refusals_total", "counter", "Refused requests by kind.");
    for refusal in Refusal::ALL {
        let count = total.refusals.get(refusal.index()).copied().unwrap_or(0);
        text.sample("weirgate_refusals_total", &[("kind", refusal.label())], count);
    }
    let [bytes_in, bytes_out] = total.bytes;
    let [lost, lost_bytes] = total.unrecorded;
    for (name, help, value) in [
        ("weirgate_exchanges_total", "Exchanges begun.", total.exchanges),
        ("weirgate_cut_answers_total", "Answers cut after their head.", total.cuts),
        ("weirgate_masked_values_total", "Values masked.", total.masked),
        ("weirgate_body_bytes_in_total", "Body bytes of callers.", bytes_in),
        ("weirgate_body_bytes_out_total", "Body bytes to callers.", bytes_out),
        ("weirgate_unrecorded_entries_total", "Entries that on_full let go unrecorded.", lost),
        ("weirgate_unrecorded_bytes_total", "Body bytes of those entries.", lost_bytes),
    ] {
        text.single(name, "counter", help, value);
    }
}

fn latency(live: &Live, text: &mut Text) {
    let name = "weirgate_added_latency_seconds";
    text.family(name, "histogram", "Time that the gateway added to exchanges, by stage.");
    for stage in Stage::ALL {
        let (mut counts, mut sum_ns) = (vec![0u64; BOUNDS.len() + 1], 0u64);
        for counters in &live.counters {
            let histogram = counters.latency.of(stage);
            for (sum, count) in counts.iter_mut().zip(histogram.buckets()) {
                *sum = sum.wrapping_add(count);
            }
            sum_ns = sum_ns.wrapping_add(histogram.sum_ns());
        }
        text.histogram(name, ("stage", stage.label()), &BOUNDS, &counts, sum_ns);
    }
}

fn connections(live: &Live, text: &mut Text) {
    let name = "weirgate_caller_connections";
    text.family(name, "gauge", "Open connections of callers.");
    for (worker, counters) in workers(live) {
        text.sample(name, &[("worker", &worker)], counters.open.get());
    }
    let name = "weirgate_upstream_connections";
    text.family(name, "gauge", "Connections to upstreams: busy with an exchange, or idle.");
    for (worker, counters) in workers(live) {
        for (state, count) in [("busy", &counters.upstream_busy), ("idle", &counters.upstream_idle)]
        {
            text.sample(name, &[("worker", &worker), ("state", state)], count.get());
        }
    }
    type Of = fn(&Counters) -> &Count;
    let counts: [(&str, &str, Of); 9] = [
        ("weirgate_connections_accepted_total", "Connections of callers that were taken.", |of| {
            &of.accepted
        }),
        ("weirgate_connections_refused_total", "Connections above `connections_max`.", |of| {
            &of.refused
        }),
        ("weirgate_connections_broken_total", "Connections that a bug ended.", |of| &of.failed),
        ("weirgate_connections_stalled_total", "Peers that took no bytes for `write_ms`.", |of| {
            &of.stalled
        }),
        ("weirgate_handshakes_failed_total", "Failed handshakes of callers.", |of| {
            &of.handshakes_failed
        }),
        ("weirgate_handshakes_spent_total", "Connections above their address's budget.", |of| {
            &of.handshakes_spent
        }),
        ("weirgate_upstream_reused_total", "Exchanges that found an idle connection.", |of| {
            &of.upstream_reused
        }),
        ("weirgate_upstream_made_total", "Upstream connections made.", |of| &of.upstream_made),
        ("weirgate_upstream_failed_total", "Upstream connections that failed.", |of| {
            &of.upstream_failed
        }),
    ];
    for (name, help, of) in counts {
        let sum: u64 = live.counters.iter().map(|counters| of(counters).get()).sum();
        text.single(name, "counter", help, sum);
    }
}

fn buffers(live: &Live, text: &mut Text) {
    let name = "weirgate_buffers";
    text.family(name, "gauge", "Buffers of the workers: lent to a connection, or free.");
    for (worker, counters) in workers(live) {
        for (state, counts) in [("free", &counters.buffers_free), ("lent", &counters.buffers_lent)]
        {
            for (size, count) in BUFFER_SIZES.iter().zip(counts) {
                let labels = [("worker", worker.as_str()), ("size", size), ("state", state)];
                text.sample(name, &labels, count.get());
            }
        }
    }
    let name = "weirgate_buffer_bytes";
    text.family(name, "gauge", "Memory of the buffers.");
    for (worker, counters) in workers(live) {
        text.sample(name, &[("worker", &worker)], counters.buffer_bytes.get());
    }
}

fn record(live: &Live, text: &mut Text) {
    let record = live.drain.metrics();
    for (name, kind, help, value) in [
        ("weirgate_journal_lag_bytes", "gauge", "Recorded, not drained.", record.lag_bytes),
        ("weirgate_drained_bytes_total", "counter", "Moved to segments.", record.drained_bytes),
        ("weirgate_drain_errors_total", "counter", "Failed writes.", record.errors),
        ("weirgate_drain_cpu_ns_total", "counter", "CPU of the drain.", record.cpu_ns),
        ("weirgate_record_bytes", "gauge", "Bytes of all segments.", record.kept_bytes),
        ("weirgate_record_refusing", "gauge", "No room.", u64::from(record.refusing)),
    ] {
        text.single(name, kind, help, value);
    }
    let horizon = Horizon {
        now_ns: runtime::now().wall_ns,
        rate: record.rate,
        kept_bytes: record.kept_bytes,
        oldest_ns: record.oldest_ns,
        age_s: record.retention.age_s,
        bytes: record.retention.bytes,
        free_bytes: record.free_bytes,
    };
    horizon.render(text);
}

fn approvals(live: &Live, text: &mut Text) {
    let found = live.desk.reading();
    let name = "weirgate_approvals";
    text.family(name, "gauge", "Approvals: requests that wait, grants, reviews that are owed.");
    for (state, count) in
        [("pending", found.pending), ("granted", found.grants), ("review_owed", found.reviews)]
    {
        text.sample(name, &[("state", state)], count);
    }
    let name = "weirgate_approval_events_total";
    text.family(name, "counter", "What happened to approvals.");
    for (event, count) in &found.events {
        text.sample(name, &[("event", event)], count);
    }
    let now_ns = runtime::now().wall_ns;
    let waits_ns = if found.pending == 0 { 0 } else { now_ns.saturating_sub(found.oldest_ns) };
    let waits_s = waits_ns / 1_000_000_000;
    for (name, kind, help, value) in [
        ("weirgate_approval_refused_total", "counter", "Asked or used in vain.", found.refused),
        ("weirgate_approval_oldest_seconds", "gauge", "How long the oldest one waits.", waits_s),
        ("weirgate_approval_waiters", "gauge", "Sessions that wait, or run by one.", found.waiters),
        ("weirgate_approval_syncs_total", "counter", "Waits for the disk.", found.syncs),
        ("weirgate_approval_log_bytes", "gauge", "Length of the log.", found.log_bytes),
        ("weirgate_approval_broken", "gauge", "The log fails.", u64::from(found.broken)),
    ] {
        text.single(name, kind, help, value);
    }
}

fn webhooks(live: &Live, text: &mut Text) {
    let found = live.notifier.readings();
    let name = "weirgate_webhook_notices_total";
    text.family(name, "counter", "Notices taken, tries in vain, notices that became dead letters.");
    for (hook, reading, ..) in &found {
        let counts = [reading.delivered, reading.failed, reading.died];
        for (outcome, count) in ["delivered", "failed", "died"].iter().zip(counts) {
            text.sample(name, &[("webhook", hook), ("outcome", outcome)], count);
        }
    }
    let name = "weirgate_webhook_notices";
    text.family(name, "gauge", "Notices that wait to be sent, and dead letters.");
    for (hook, _, queued, dead) in &found {
        for (state, count) in [("queued", queued), ("dead", dead)] {
            text.sample(name, &[("webhook", hook), ("state", state)], count);
        }
    }
    let name = "weirgate_webhook_failing";
    text.family(name, "gauge", "The last try was in vain.");
    for (hook, reading, ..) in &found {
        text.sample(name, &[("webhook", hook)], u64::from(reading.failing));
    }
    let name = "weirgate_webhook_callbacks_total";
    text.family(name, "counter", "Callbacks by their outcome.");
    for (hook, reading, ..) in &found {
        for (outcome, count) in &reading.callbacks {
            text.sample(name, &[("webhook", hook), ("outcome", outcome)], count);
        }
    }
    let name = "weirgate_webhook_forgotten_total";
    text.single(name, "counter", "Dead letters that made room.", live.notifier.forgotten());
}

fn workers(live: &Live) -> impl Iterator<Item = (String, &Counters)> {
    let list = live.counters.iter().enumerate();
    list.map(|(worker, counters)| (worker.to_string(), counters.as_ref()))
}
