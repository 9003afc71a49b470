//! Prometheus' text format, version 0.0.4: families, samples, histograms.
//!
//! What is counted is the workers' and the drain's; `gateway` reads it when it is asked. The names
//! of labels are fixed, and their values come from the config, never from traffic.

use std::fmt::{Display, Write as _};
use std::time::Duration;

/// The text, as it grows.
#[derive(Debug, Default)]
pub struct Text(String);

impl Text {
    /// Begins a family of samples; `kind` is `counter`, `gauge` or `histogram`. Each name begins
    /// once in a text.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        debug_assert!(!self.0.contains(&format!("# TYPE {name} ")), "{name} begins twice");
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Adds a sample. Label values may hold any text.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (place, (key, label)) in labels.iter().enumerate() {
            self.0.push(if place == 0 { '{' } else { ',' });
            let _ = write!(self.0, "{key}=\"");
            for c in label.chars() {
                match c {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    c => self.0.push(c),
                }
            }
            self.0.push('"');
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{close} {value}");
    }

    /// Adds a family of one sample without labels.
    pub fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    /// Adds the samples of one histogram: `counts` by bucket, each for itself and one more than
    /// there are `bounds`; the sum in nanoseconds.
    pub fn histogram(
        &mut self,
        name: &str,
        label: (&str, &str),
        bounds: &[Duration],
        counts: &[u64],
        sum_ns: u64,
    ) {
        debug_assert_eq!(counts.len(), bounds.len() + 1);
        let (bucket, mut total) = (format!("{name}_bucket"), 0u64);
        for (place, count) in counts.iter().enumerate() {
            total = total.saturating_add(*count);
            let bound = bounds.get(place).map_or("+Inf".to_owned(), |bound| seconds(*bound));
            self.sample(&bucket, &[label, ("le", &bound)], total);
        }
        self.sample(&format!("{name}_sum"), &[label], seconds(Duration::from_nanos(sum_ns)));
        self.sample(&format!("{name}_count"), &[label], total);
    }

    /// The text so far.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

/// What bounds the record, and how fast it grows towards that.
#[derive(Clone, Copy, Debug, Default)]
pub struct Horizon {
    /// Wall nanoseconds.
    pub now_ns: u64,
    /// Bytes a second.
    pub rate: f64,
    /// Bytes that are kept.
    pub kept_bytes: u64,
    /// When the oldest closed segment was closed, wall nanoseconds; 0 without.
    pub oldest_ns: u64,
    /// `retain.age` in seconds.
    pub age_s: Option<u64>,
    /// `retain.bytes`.
    pub bytes: Option<u64>,
    /// Room on the disk, where it is known.
    pub free_bytes: Option<u64>,
}

impl Horizon {
    /// Days until the oldest segment is deleted, by `age` and by `bytes`, and until the `disk` is
    /// full, at the present rate:
    ///
    /// - age: the age that is left to the oldest closed segment; without one the whole of it
    /// - bytes: `(retain.bytes - bytes kept) / rate`
    /// - disk: `free bytes / rate`
    ///
    /// Not below 0: retention is at work, or the disk is full. Infinite without such a bound, and
    /// at a rate below a byte a second; not a number where the room is not known. Segments count as long as they are on the disk, with the
    /// part that is only preallocated: both are right to a segment for each worker.
    #[must_use]
    pub fn days(&self) -> [(&'static str, f64); 3] {
        let at_rate = |left: u64| match left {
            0 => 0.0,
            _ if self.rate < 1.0 => f64::INFINITY,
            left => left as f64 / self.rate / DAY_S,
        };
        let age = self.age_s.map(|age_s| {
            let since = if self.oldest_ns == 0 { self.now_ns } else { self.oldest_ns };
            let end = since.saturating_add(age_s.saturating_mul(1_000_000_000));
            end.saturating_sub(self.now_ns) as f64 / 1e9 / DAY_S
        });
        let bytes = self.bytes.map(|most| at_rate(most.saturating_sub(self.kept_bytes)));
        let disk = self.free_bytes.map_or(f64::NAN, at_rate);
        let or_never = |days: Option<f64>| days.unwrap_or(f64::INFINITY);
        [("age", or_never(age)), ("bytes", or_never(bytes)), ("disk", disk)]
    }

    /// Writes them as a gauge.
    pub fn render(&self, text: &mut Text) {
        let name = "weirgate_record_days_left";
        text.family(name, "gauge", "Days until retention deletes or the disk is full.");
        for (until, days) in self.days() {
            let value = match days {
                days if days.is_nan() => "NaN".to_owned(),
                days if days.is_infinite() => "+Inf".to_owned(),
                days => format!("{days:.6}"),
            };
            text.sample(name, &[("until", until)], value);
        }
    }
}

/// Seconds of a day.
const DAY_S: f64 = 86_400.0;

/// A time as seconds, exactly.
fn seconds(time: Duration) -> String {
    let text = format!("{}.{:09}", time.as_secs(), time.subsec_nanos());
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_left_follow_the_rate_and_each_bound() {
        let day_ns = 86_400_000_000_000;
        let free = Horizon { now_ns: 100 * day_ns, free_bytes: Some(1), ..Horizon::default() };
        assert!(free.days().iter().all(|(_, days)| days.is_infinite()), "no bound");
        let mut text = Text::default();
        free.render(&mut text);
        assert!(text.into_string().ends_with("weirgate_record_days_left{until=\"disk\"} +Inf\n"));
        let bound = Horizon {
            rate: 1_000.0,
            kept_bytes: 14 * 86_400_000,
            oldest_ns: 90 * day_ns,
            age_s: Some(30 * 86_400),
            bytes: Some(20 * 86_400_000),
            free_bytes: Some(3 * 86_400_000),
            ..free
        };
        let days = |horizon: Horizon| horizon.days().map(|(_, days)| days);
        assert_eq!(days(bound), [20.0, 6.0, 3.0]);
        // At rest only age runs on.
        let quiet = Horizon { rate: 0.5, ..bound };
        assert_eq!(days(quiet), [20.0, f64::INFINITY, f64::INFINITY]);
        assert_eq!(days(Horizon { oldest_ns: 0, ..bound })[0], 30.0, "nothing is closed yet");
        let over = Horizon { kept_bytes: u64::MAX, oldest_ns: 1, free_bytes: Some(0), ..quiet };
        assert_eq!(days(over), [0.0, 0.0, 0.0]);
        assert!(days(Horizon { free_bytes: None, ..bound })[2].is_nan());
    }

    #[test]
    fn labels_are_escaped_and_seconds_are_exact() {
        let mut text = Text::default();
        text.sample("x", &[("a", "q\"\\\nz")], 1);
        assert_eq!(text.into_string(), "x{a=\"q\\\"\\\\\\nz\"} 1\n");
        assert_eq!(seconds(Duration::from_nanos(1_500_000_000)), "1.5");
        assert_eq!(seconds(Duration::from_micros(25)), "0.000025");
        assert_eq!(seconds(Duration::ZERO), "0");
    }

    #[test]
    fn buckets_of_a_histogram_add_up() {
        let mut text = Text::default();
        let bounds = [Duration::from_micros(10), Duration::from_secs(1)];
        text.histogram("t", ("stage", "all"), &bounds, &[3, 2, 1], 1_500_000_000);
        let expected = "t_bucket{stage=\"all\",le=\"0.00001\"} 3\n\
                        t_bucket{stage=\"all\",le=\"1\"} 5\n\
                        t_bucket{stage=\"all\",le=\"+Inf\"} 6\n\
                        t_sum{stage=\"all\"} 1.5\n\
                        t_count{stage=\"all\"} 6\n";
        assert_eq!(text.into_string(), expected);
    }

    #[test]
    #[should_panic(expected = "begins twice")]
    fn a_family_begins_once() {
        let mut text = Text::default();
        text.single("one", "gauge", "First.", 1);
        text.single("one", "gauge", "Second.", 1);
    }
}
