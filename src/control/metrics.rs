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

/// A time as seconds, exactly.
fn seconds(time: Duration) -> String {
    let text = format!("{}.{:09}", time.as_secs(), time.subsec_nanos());
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

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
