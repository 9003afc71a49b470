//! One reading of `/metrics`.

use super::{Caller, PATIENCE};
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// The samples: name, labels, value.
#[derive(Debug)]
pub(crate) struct Scrape(Vec<Sample>);

type Sample = (String, Vec<(String, String)>, f64);

impl Scrape {
    /// Reads it; a text that is no exposition format fails the test.
    pub(crate) fn of(admin: SocketAddr) -> Self {
        let mut caller = Caller::open(admin).unwrap();
        caller.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        caller.send("GET", "/metrics", "none", None).unwrap();
        let answer = caller.answer().unwrap();
        assert_eq!(answer.status, 200);
        let (mut families, mut samples) = (BTreeSet::new(), Vec::new());
        for line in answer.text().lines() {
            if let Some(family) = line.strip_prefix("# TYPE ") {
                assert!(families.insert(family.to_owned()), "{family} twice");
            } else if !line.starts_with('#') {
                samples.push(sample(line));
            }
        }
        Self(samples)
    }

    /// The sum of all samples of this name that have these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let mine = self.0.iter().filter(|(known, have, _)| {
            let has =
                |(key, value): &(&str, &str)| have.iter().any(|(k, v)| k == key && v == value);
            known == name && labels.iter().all(has)
        });
        mine.map(|(_, _, value)| value).sum()
    }

    /// Whether there is a sample of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, ..)| known == name)
    }

    /// The values of one label, in the order of the text.
    pub(crate) fn labels(&self, name: &str, label: &str) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for (_, labels, _) in self.0.iter().filter(|(known, ..)| known == name) {
            for (_, value) in labels.iter().filter(|(key, _)| key == label) {
                if !found.contains(value) {
                    found.push(value.clone());
                }
            }
        }
        found
    }
}

fn sample(line: &str) -> Sample {
    let (name, value) = line.rsplit_once(' ').unwrap();
    let value: f64 = value.parse().unwrap();
    let Some((name, labels)) = name.split_once('{') else {
        return (name.to_owned(), Vec::new(), value);
    };
    let labels = labels.strip_suffix("\"}").unwrap().split("\",").map(|label| {
        let (key, value) = label.split_once("=\"").unwrap();
        (key.to_owned(), value.to_owned())
    });
    (name.to_owned(), labels.collect(), value)
}
