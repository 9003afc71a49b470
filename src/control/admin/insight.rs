//! What the views of the record, of the moment and of the last minutes stand on: where the record is,
//! what is counted, and how many may look at once.

use super::charts::{Sample, Series};
use crate::control::archive::Running;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::Semaphore;

/// Everything that the views share.
pub struct Insight {
    /// Where the record is.
    pub(super) dir: PathBuf,
    /// When the gateway started: what began before and has no end was cut.
    pub(super) started_ns: u64,
    sample: Box<dyn Fn() -> Sample + Send + Sync>,
    series: Mutex<Series>,
    /// Who may read the record at once. The reading is on threads of its own, and the disk is the
    /// drain's, too.
    pub(super) readers: Arc<Semaphore>,
    /// Who may listen at once.
    pub(super) listeners: Arc<Semaphore>,
    /// What runs, as far as it was followed.
    pub(super) running: Arc<Mutex<Running>>,
    /// What ran a moment ago.
    pub(super) ran: tokio::sync::Mutex<Option<(Instant, Value)>>,
}

impl Insight {
    /// Over the record in `dir`, of a gateway that started at `started_ns`; `sample` reads what it
    /// counts.
    pub fn new(
        dir: PathBuf,
        started_ns: u64,
        sample: impl Fn() -> Sample + Send + Sync + 'static,
    ) -> Self {
        Self {
            dir,
            started_ns,
            sample: Box::new(sample),
            series: Mutex::default(),
            readers: Arc::new(Semaphore::new(READERS_MAX)),
            listeners: Arc::new(Semaphore::new(LISTENERS_MAX)),
            running: Arc::default(),
            ran: tokio::sync::Mutex::default(),
        }
    }

    /// What is counted at this moment.
    pub(super) fn now(&self) -> Sample {
        (self.sample)()
    }

    /// Adds a point to the series.
    pub(super) fn tick(&self, now_ns: u64) {
        let sample = self.now();
        self.series.lock().unwrap_or_else(PoisonError::into_inner).push(now_ns, sample);
    }

    /// The series as the API tells it.
    pub(super) fn charts(&self) -> Value {
        self.series.lock().unwrap_or_else(PoisonError::into_inner).value()
    }
}

/// See [`Insight::readers`].
const READERS_MAX: usize = 2;
/// See [`Insight::listeners`].
const LISTENERS_MAX: usize = 64;
