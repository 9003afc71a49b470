//! A gateway as a value: start it from a config, ask where it listens, reload it, stop it.
//!
//! It installs no signal handler and keeps nothing global, so that several can live in one
//! process. Dropping one stops it without a drain.

mod approving;
mod compile;
mod control;
mod estimate;
mod keys;
mod metrics;
mod relations;
mod restart;
mod sessions;
mod sign_in;
mod stamps;
mod webhooks;

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests;

use crate::base::{ListenerId, Secret};
use crate::config::{Config, Diagnostic, Secrets, Source};
use crate::control::approvals::{self, Approvals, Desk, LogError};
use crate::control::drain::{self, Drain, DrainError, Files, Settings, Storage};
use crate::control::notify::{self, HookError, Notifier, OutboxError};
use crate::policy::approval::Bounds;
use crate::runtime::map::RingJournal;
use crate::runtime::{self, Counters, ListenerPlan, Mailbox, Published, Worker, WorkerPlan};
use crate::session::cancels::Cancels;
use crate::session::relations::Relations;
use crate::session::{Counts, Snapshot};
use approving::Bridge;
use control::Control;
pub use estimate::database_target;
pub use relations::known_relations;
use rustls::ServerConfig;
use sessions::Recipe;
use stamps::Stamps;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

/// Why a gateway does not start, or a reload is not taken.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// Secrets that cannot be resolved, each with its place in the config.
    Config(Vec<Diagnostic>),
    /// A secret that the config names was not resolved.
    Secret,
    /// A mask that does not compile with its key.
    Mask(String),
    /// Certificates, keys or names of TLS.
    Tls(String),
    /// A file that cannot be read.
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: String,
    },
    /// The record cannot be opened; another gateway may own it.
    Record(DrainError),
    /// The log of approvals cannot be read.
    Approvals(LogError),
    /// A webhook cannot be used.
    Webhook(HookError),
    /// The outbox of notices cannot be read.
    Outbox(OutboxError),
    /// A worker cannot start: its address is taken, or the system refused.
    Worker(io::Error),
    /// The control thread cannot start.
    Control(String),
    /// A reload that would need a restart, with the keys that it changes. Nothing of it is taken.
    Restart(Vec<String>),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(list) => {
                for one in list {
                    writeln!(f, "{one}")?;
                }
                Ok(())
            }
            Self::Secret => f.write_str("a credential's secret was not resolved"),
            Self::Mask(text) | Self::Tls(text) | Self::Control(text) => f.write_str(text),
            Self::File { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Record(error) => error.fmt(f),
            Self::Approvals(error) => error.fmt(f),
            Self::Webhook(error) => error.fmt(f),
            Self::Outbox(error) => error.fmt(f),
            Self::Worker(error) => write!(f, "a worker cannot start: {error}"),
            Self::Restart(keys) => {
                write!(f, "{}: a change takes a restart, not a reload", keys.join(", "))
            }
        }
    }
}

impl std::error::Error for StartError {}

/// Where the gateway gets files, environment and secrets from; a custom one can be passed.
pub type SharedSource = Arc<dyn Source + Send + Sync>;

/// A running gateway.
///
/// ```
/// use std::{fs, sync::Arc};
/// use weirgate::{cli::source::System, config, gateway::Gateway, identity::dev::DevKey};
///
/// let dir = tempfile::tempdir()?;
/// let text = r#"
///     gateway = { workers = 1, data_dir = "data", ring_dir = "rings" }
///     [[issuer]]
///     name = "dev"
///     issuer = "https://issuer.example"
///     audience = ["weirgate"]
///     algorithms = ["EdDSA"]
///     profile = "rfc9068"
///     jwks_file = "jwks.json"
///     [[listener]]
///     name = "api"
///     address = "127.0.0.1:0"
///     protocol = "http""#;
/// fs::create_dir(dir.path().join("rings"))?;
/// fs::write(dir.path().join("jwks.json"), DevKey::generate().unwrap().jwks())?;
/// fs::write(dir.path().join("gateway.toml"), text)?;
/// let config = config::load(&dir.path().join("gateway.toml"), &System).unwrap();
/// let gateway = Gateway::start(config, Arc::new(System))?;
/// assert_ne!(gateway.address("api").unwrap().port(), 0);
/// assert!(gateway.stop());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Gateway {
    workers: Vec<Worker>,
    control: Option<Control>,
    approvals: Option<Approvals>,
    drain: Option<Drain>,
    listeners: Vec<(String, SocketAddr)>,
    live: Arc<Live>,
}

/// What a running gateway can change: published whole, taken over by the workers.
struct Live {
    source: SharedSource,
    snapshot: Arc<Published<Snapshot>>,
    upstreams: Arc<Published<runtime::Upstreams>>,
    addresses: Arc<Published<runtime::Addresses>>,
    servers: Vec<Option<Arc<Published<ServerConfig>>>>,
    config: Mutex<Arc<Config>>,
    /// `[admin] token`, and the secret of `[admin] sign_in`.
    admin_secrets: Mutex<AdminSecrets>,
    /// Held from the reading of the config in force to the publishing of what was made of it.
    changing: Mutex<()>,
    counts: Vec<Arc<Mutex<Counts>>>,
    counters: Vec<Arc<Counters>>,
    drain: drain::DrainHandle,
    relations: Arc<Relations>,
    desk: Desk,
    notifier: Arc<Notifier>,
}

#[derive(Clone)]
struct AdminSecrets {
    token: Option<Secret>,
    sign_in: Option<Secret>,
}

impl AdminSecrets {
    fn of(secrets: &Secrets) -> Self {
        Self { token: secrets.admin_token().cloned(), sign_in: secrets.sign_in().cloned() }
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

impl Gateway {
    /// Resolves secrets, opens the record, starts control and the workers, and returns when all
    /// listeners accept.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub fn start(config: Config, source: SharedSource) -> Result<Self, StartError> {
        Self::start_on(config, source, Arc::new(Files))
    }

    /// The same, with the segments of the record written by way of `storage`.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub fn start_on(
        config: Config,
        source: SharedSource,
        storage: Arc<dyn Storage>,
    ) -> Result<Self, StartError> {
        // Before any file is read: what is replaced from here on is read again.
        let read = Stamps::of(&config);
        let secrets = config.resolve_secrets(&*source).map_err(StartError::Config)?;
        let snapshot = compile::snapshot(&config, &secrets, 1)?;
        let upstreams = compile::upstreams(&config, &*source, 1)?;
        let servers: Vec<_> = config
            .listeners
            .iter()
            .map(|listener| Ok(compile::server(listener, &*source)?.map(Published::from_arc)))
            .collect::<Result<_, StartError>>()?;
        let cores = runtime::cores();
        let count = match usize::from(config.gateway.workers) {
            0 => cores.len().max(1),
            count => count,
        };
        let workers = u32::try_from(count).unwrap_or(1);
        let mut settings =
            Settings::new(&config.gateway.data_dir, &config.gateway.data_dir, workers);
        settings.control = true;
        settings.ring_dir.clone_from(&config.gateway.ring_dir);
        settings.policy_digest = snapshot.policy.digest();
        settings.storage = Arc::clone(&storage);
        settings.retention = retention(&config);
        settings.tick_ms = config.record.window_ms;
        let opened = drain::open(&settings).map_err(StartError::Record)?;
        let relations = known_relations(&config.gateway.data_dir, &*source)?;
        // The drain has the lock of the data folder.
        let approvals = Approvals::start(
            &config.gateway.data_dir.join(approvals::DIR),
            Bounds::of(&config.limits),
            opened.control,
            Arc::clone(&storage),
        )
        .map_err(StartError::Approvals)?;
        let notices = config.gateway.data_dir.join(notify::DIR);
        let notifier = Arc::new(Notifier::new(approvals.desk(), notices, storage));
        webhooks::take_over(&notifier, webhooks::hooks(&config, &secrets, &*source)?, &config)?;
        let live = Arc::new(Live {
            relations: Arc::new(relations),
            source,
            snapshot: Published::new(snapshot),
            upstreams: Published::new(upstreams),
            addresses: Published::new(runtime::Addresses::default()),
            servers,
            // With their room, so that no tick of a worker makes any.
            counts: (0..count)
                .map(|_| Arc::new(Mutex::new(Counts::of(config.resources.len()))))
                .collect(),
            counters: (0..count).map(|_| Arc::default()).collect(),
            drain: opened.drain.handle(),
            desk: approvals.desk(),
            notifier,
            config: Mutex::new(Arc::new(config)),
            admin_secrets: Mutex::new(AdminSecrets::of(&secrets)),
            changing: Mutex::new(()),
        });
        let mut gateway = Self {
            workers: Vec::new(),
            control: None,
            approvals: Some(approvals),
            drain: Some(opened.drain),
            listeners: Vec::new(),
            live: Arc::clone(&live),
        };
        let control = Control::start(Arc::clone(&live), read)?;
        gateway.start_workers(opened.journals, &cores, &control)?;
        gateway.control = Some(control);
        Ok(gateway)
    }

    fn start_workers(
        &mut self,
        journals: Vec<RingJournal>,
        cores: &[usize],
        control: &Control,
    ) -> Result<(), StartError> {
        let config = self.live.config();
        let mut plans: Vec<ListenerPlan> = (0u16..)
            .zip(&config.listeners)
            .zip(&self.live.servers)
            .map(|((place, listener), tls)| ListenerPlan {
                id: ListenerId(place),
                address: listener.address,
                tls: tls.clone(),
                opening: compile::opening(listener.protocol),
            })
            .collect();
        let listeners: Vec<_> = config
            .listeners
            .iter()
            .map(|listener| (listener.protocol, compile::certificate_rules(&config, listener)))
            .collect();
        let live = &self.live;
        let (mailbox, mail) = Mailbox::new(journals.len()).map_err(StartError::Worker)?;
        let to_cancel = Arc::clone(&mailbox);
        let cancels = Cancels::new(Box::new(move |worker, id| {
            // A session that is gone meanwhile has nothing left to cancel.
            to_cancel.post(worker as usize, id);
        }));
        let places = journals.into_iter().zip(live.counts.iter().zip(&live.counters)).enumerate();
        for ((place, (journal, (counts, counters))), mail) in places.zip(mail) {
            let number = u32::try_from(place).unwrap_or(u32::MAX);
            let (bell, ringer) = UnixStream::pair().map_err(StartError::Worker)?;
            ringer.set_nonblocking(true).map_err(StartError::Worker)?;
            self.live.drain.set_bell(number, ringer);
            let recipe = Recipe {
                snapshot: Arc::clone(&self.live.snapshot),
                keys: control.keys(),
                asker: control.asker(),
                journal,
                drain: self.live.drain.clone(),
                place: number,
                bell,
                mail,
                cancels: Arc::clone(&cancels),
                relations: Arc::clone(&self.live.relations),
                bridge: Bridge {
                    desk: live.desk.clone(),
                    mailbox: Arc::clone(&mailbox),
                    place: number,
                    control: control.handle(),
                },
                counts: Arc::clone(counts),
                listeners: listeners.clone(),
                seed: control::seed()?,
            };
            let plan = WorkerPlan {
                name: format!("worker-{place}"),
                core: cores.get(place % cores.len().max(1)).copied(),
                force_legacy: false,
                limits: compile::limits(&config),
                listeners: plans.clone(),
                upstreams: Arc::clone(&self.live.upstreams),
                addresses: Arc::clone(&self.live.addresses),
                counters: Arc::clone(counters),
            };
            let worker = Worker::start(plan, move || recipe.cook()).map_err(StartError::Worker)?;
            // A port that the system chose for the first worker is everybody's.
            for (plan, address) in plans.iter_mut().zip(worker.addresses()) {
                plan.address = *address;
            }
            tracing::info!(worker = place, driver = %worker.driver(), "worker started");
            self.workers.push(worker);
        }
        self.listeners = config
            .listeners
            .iter()
            .zip(&plans)
            .map(|(listener, plan)| (listener.name.clone(), plan.address))
            .collect();
        Ok(())
    }

    /// The listeners by name, with the addresses that they are bound to.
    #[must_use]
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        &self.listeners
    }

    /// One listener's address.
    #[must_use]
    pub fn address(&self, name: &str) -> Option<SocketAddr> {
        self.listeners.iter().find(|(known, _)| known == name).map(|(_, address)| *address)
    }

    /// The admin surface's address, where the config has one.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.control.as_ref().and_then(Control::admin_address)
    }

    /// Where approvals are asked for, decided and taken back.
    #[must_use]
    pub fn desk(&self) -> Desk {
        self.live.desk.clone()
    }

    /// Takes a new config over: policy, masks, credentials, resources, certificates, hosts, what
    /// is asked of tokens, who may see the admin surface, what the record keeps, the bounds of
    /// exchanges. The old one stays in force whole when anything is wrong; exchanges in hand keep
    /// theirs.
    ///
    /// # Errors
    /// [`StartError`]; [`StartError::Restart`] names the keys that only a start takes over.
    pub fn reload(&self, config: Config) -> Result<(), StartError> {
        self.live.reload(config)
    }

    /// Whether every worker's thread is there.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.workers.iter().all(Worker::is_running)
    }

    /// Accepts no more, finishes what is in hand within `limits.drain_ms`, closes the record.
    /// Returns whether everything ended in order.
    pub fn stop(mut self) -> bool {
        self.workers.iter().for_each(Worker::drain);
        let mut fine = true;
        for worker in self.workers.drain(..) {
            fine &= worker.stop();
        }
        drop(self.control.take());
        drop(self.approvals.take());
        fine & self.drain.take().is_none_or(Drain::stop)
    }
}

fn retention(config: &Config) -> drain::Retention {
    drain::Retention {
        age_s: config.record.retain_age_ms.map(|ms| ms / 1_000),
        bytes: config.record.retain_bytes,
    }
}

impl Live {
    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn admin_secrets(&self) -> AdminSecrets {
        self.admin_secrets.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn set_admin_secrets(&self, secrets: &Secrets) {
        let place = self.admin_secrets.lock();
        *place.unwrap_or_else(std::sync::PoisonError::into_inner) = AdminSecrets::of(secrets);
    }

    /// One change at a time: two that overlap would publish what the later one replaced.
    fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn reload(&self, config: Config) -> Result<(), StartError> {
        let _changing = self.change();
        let old = self.config();
        let keys = restart::needed(&old, &config);
        if !keys.is_empty() {
            return Err(StartError::Restart(keys));
        }
        let secrets = config.resolve_secrets(&*self.source).map_err(StartError::Config)?;
        let generation = self.snapshot.load().0.generation + 1;
        let snapshot = compile::snapshot(&config, &secrets, generation)?;
        let upstreams = compile::upstreams(&config, &*self.source, generation)?;
        let upstreams = upstreams.after(&self.upstreams.load().0);
        let servers: Vec<_> = config
            .listeners
            .iter()
            .map(|listener| compile::server(listener, &*self.source))
            .collect::<Result<_, StartError>>()?;
        let hooks = webhooks::hooks(&config, &secrets, &*self.source)?;
        webhooks::open(&self.notifier, &config)?;
        // From here nothing can fail: all of it is published.
        self.drain.set_policy_digest(snapshot.policy.digest());
        self.drain.set_retention(retention(&config));
        self.desk.set_bounds(Bounds::of(&config.limits));
        for (published, made) in self.servers.iter().zip(servers) {
            if let (Some(published), Some(made)) = (published, made) {
                published.publish(made);
            }
        }
        self.upstreams.publish(Arc::new(upstreams));
        self.snapshot.publish(Arc::new(snapshot));
        self.set_admin_secrets(&secrets);
        self.notifier.set_hooks(hooks, webhooks::public_url(&config));
        let mut current = self.config.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *current = Arc::new(config);
        tracing::info!(generation, "config taken over");
        Ok(())
    }
}
