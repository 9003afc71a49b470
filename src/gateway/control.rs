//! The control thread of one gateway: keys, names, certificates, the admin surface.

use super::keys::Jwks;
use super::relations::Keeper;
use super::stamps::Stamps;
use super::{Live, StartError, compile, estimate, metrics, sign_in, webhooks};
use crate::config::{Config, KeySource};
use crate::control::admin::{self, Admin, SignIn, Site};
use crate::control::dns::Dns;
use crate::control::keys::{Asker, Keys, Location, Source};
use crate::control::tls;
use crate::identity::KeySnapshot;
use crate::runtime::{self, Published};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// The running thread. A drop ends it.
pub(super) struct Control {
    thread: Option<JoinHandle<()>>,
    stop: Option<oneshot::Sender<()>>,
    ready: Ready,
}

struct Ready {
    keys: Arc<Published<KeySnapshot>>,
    asker: Asker<Jwks>,
    admin: Option<SocketAddr>,
    handle: tokio::runtime::Handle,
}

impl Control {
    /// Starts the thread. `read` is how the files were before the start read them.
    pub(super) fn start(live: Arc<Live>, read: Stamps) -> Result<Self, StartError> {
        let (stop, stopped) = oneshot::channel();
        let (sender, receiver) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || {
                let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
                match built {
                    Ok(runtime) => runtime.block_on(run(live, read, stopped, &sender)),
                    Err(error) => drop(sender.send(Err(error.to_string()))),
                }
            })
            .map_err(|error| StartError::Control(error.to_string()))?;
        match receiver.recv() {
            Ok(Ok(ready)) => Ok(Self { thread: Some(thread), stop: Some(stop), ready }),
            Ok(Err(error)) => Err(StartError::Control(error)),
            Err(_) => Err(StartError::Control("control ended before it was ready".to_owned())),
        }
    }

    pub(super) fn keys(&self) -> Arc<Published<KeySnapshot>> {
        Arc::clone(&self.ready.keys)
    }

    pub(super) fn asker(&self) -> Asker<Jwks> {
        self.ready.asker.clone()
    }

    /// Where others may put what waits.
    pub(super) fn handle(&self) -> tokio::runtime::Handle {
        self.ready.handle.clone()
    }

    pub(super) fn admin_address(&self) -> Option<SocketAddr> {
        self.ready.admin
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was logged there.
            let _ = thread.join();
        }
    }
}

async fn run(
    live: Arc<Live>,
    read: Stamps,
    stopped: oneshot::Receiver<()>,
    sender: &mpsc::SyncSender<Result<Ready, String>>,
) {
    let config = live.config();
    let started = begin(&config).await;
    let (keys, dns) = match started {
        Ok(started) => started,
        Err(error) => return drop(sender.send(Err(error))),
    };
    let keys = Arc::new(keys);
    let listener = match &config.admin {
        None => None,
        Some(settings) => match tokio::net::TcpListener::bind(settings.address).await {
            Ok(listener) => Some(listener),
            Err(error) => {
                let text = format!("[admin] address {}: {error}", settings.address);
                return drop(sender.send(Err(text)));
            }
        },
    };
    publish_addresses(&live, &dns);
    let ready = Ready {
        keys: keys.published(),
        asker: keys.asker(),
        admin: listener.as_ref().and_then(|listener| listener.local_addr().ok()),
        handle: tokio::runtime::Handle::current(),
    };
    if sender.send(Ok(ready)).is_err() {
        return;
    }
    let (end, ended) = oneshot::channel::<()>();
    let bound = listener.as_ref().and_then(|listener| listener.local_addr().ok());
    let surface = listener.zip(bound).map(|(listener, bound)| {
        let admin = admin_of(&live, &keys, bound);
        tokio::spawn(async move {
            let until = async { drop(ended.await) };
            if let Err(error) = admin::serve(listener, admin, until).await {
                tracing::error!(%error, "the admin surface ended");
            }
        })
    });
    tokio::select! {
        _ = stopped => {}
        () = watch(&live, read, &dns) => {}
        () = Arc::clone(&live.notifier).run() => {}
    }
    drop(end);
    if let Some(surface) = surface {
        // An open connection of a viewer does not hold the stop up.
        let _ = tokio::time::timeout(Duration::from_secs(1), surface).await;
    }
}

async fn begin(config: &Config) -> Result<(Keys<Jwks>, Dns), String> {
    let sources = config
        .token_issuers
        .iter()
        .map(|issuer| Source {
            issuer: issuer.rules.issuer.clone(),
            location: match &issuer.keys {
                KeySource::Discovery => Location::Discovery,
                KeySource::Url(url) => Location::Url(url.clone()),
                KeySource::File(path) => Location::File(path.clone()),
            },
        })
        .collect();
    let keys = Keys::start(sources, Jwks, tls::client_config(&[])?)?;
    let dns = Dns::start(compile::names(config));
    // Not for ever: what is not there yet is refused until it is.
    let _ = tokio::time::timeout(FIRST_KEYS, keys.first_attempts()).await;
    dns.first_answers(FIRST_ADDRESSES).await;
    Ok((keys, dns))
}

/// Names as they resolve, certificates and secrets as their files change.
async fn watch(live: &Arc<Live>, mut files: Stamps, dns: &Dns) {
    let mut names = dns.published().generation();
    let data_dir = live.config().gateway.data_dir.clone();
    let mut keeper = Keeper::new(Arc::clone(&live.relations), data_dir);
    loop {
        tokio::time::sleep(LOOK).await;
        keeper.keep();
        let generation = dns.published().generation();
        if generation != names {
            names = generation;
            publish_addresses(live, dns);
        }
        // Before they are read, so that one that is replaced meanwhile differs at the next look.
        let found = Stamps::of(&live.config());
        let differ = found.differ(&files);
        files = found;
        if differ {
            refresh(live);
        }
        dns.set_names(compile::names(&live.config()));
    }
}

/// Compiles the config in force once more, with the files as they are. What is wrong with them
/// leaves the old ones in use: all secrets together, and each certificate for itself, so that one
/// that is renewed does not wait for a secret to be put right.
fn refresh(live: &Arc<Live>) {
    let _changing = live.change();
    let config = live.config();
    let mut fine = renew_secrets(live, &config);
    for (listener, published) in config.listeners.iter().zip(&live.servers) {
        match (compile::server(listener, &*live.source), published) {
            (Ok(Some(made)), Some(published)) => published.publish(made),
            (Err(error), _) => {
                tracing::error!("a changed certificate cannot be used: {error}");
                fine = false;
            }
            _ => {}
        }
    }
    if fine {
        tracing::info!("certificates and secrets were read again");
    }
}

/// Puts the secrets in force, and whom to trust as an upstream. Returns whether all are usable.
fn renew_secrets(live: &Live, config: &Config) -> bool {
    let secrets = match config.resolve_secrets(&*live.source) {
        Ok(secrets) => secrets,
        Err(errors) => {
            for error in errors {
                tracing::error!("a secret changed and cannot be used: {error}");
            }
            return false;
        }
    };
    let generation = live.snapshot.load().0.generation + 1;
    let made = compile::snapshot(config, &secrets, generation).and_then(|snapshot| {
        let made = compile::upstreams(config, &*live.source, generation)?;
        let hooks = webhooks::hooks(config, &secrets, &*live.source)?;
        Ok((snapshot, made.after(&live.upstreams.load().0), hooks))
    });
    match made {
        Ok((snapshot, upstreams, hooks)) => {
            live.upstreams.publish(Arc::new(upstreams));
            live.snapshot.publish(Arc::new(snapshot));
            live.set_admin_secrets(&secrets);
            live.notifier.set_hooks(hooks, webhooks::public_url(config));
            true
        }
        Err(error) => {
            tracing::error!("changed files cannot be used: {error}");
            false
        }
    }
}

fn publish_addresses(live: &Live, dns: &Dns) {
    let (found, _) = dns.published().load();
    let mut addresses = runtime::Addresses::default();
    for (name, list) in found.iter() {
        addresses.insert(name, list.to_vec());
    }
    live.addresses.publish(Arc::new(addresses));
}

fn admin_of(live: &Arc<Live>, keys: &Arc<Keys<Jwks>>, bound: SocketAddr) -> Admin {
    let [seen, listed, counted, asked, opened, planned, named] =
        std::array::from_fn(|_| Arc::clone(live));
    let (key_state, verify_keys) = (Arc::clone(keys), Arc::clone(keys));
    let oidc = sign_in::oidc(live, keys);
    let oidc = oidc.inspect_err(|why| tracing::error!("nobody signs in at the issuer: {why}")).ok();
    Admin {
        token: Box::new(move || opened.admin_secrets().token),
        verify: Some(Box::new(move |token| sign_in::bearer(&asked, &verify_keys, token))),
        not_ready: Box::new(move || {
            let mut reasons = Vec::new();
            if !key_state.is_ready() {
                reasons.push("an issuer's keys are missing".to_owned());
            }
            if seen.drain.refusing() {
                reasons.push("the record has no room".to_owned());
            }
            if seen.desk.reading().broken {
                reasons.push("the log of approvals cannot be written".to_owned());
            }
            reasons
        }),
        resources: Box::new(move || {
            let (snapshot, _) = listed.snapshot.load();
            let list = snapshot.resources.iter();
            list.map(|one| json!({ "name": one.name, "upstream": one.authority })).collect()
        }),
        metrics: Box::new(move |text| metrics::samples(&counted, text)),
        desk: live.desk.clone(),
        notifier: Arc::clone(&live.notifier),
        plan: Box::new(move |ask, statement| estimate::plan(&planned, ask, statement)),
        site: Box::new(move || {
            let public_url = named.config().admin.as_ref().and_then(|one| one.public_url.clone());
            Site { public_url, bound }
        }),
        sign_in: SignIn::new(oidc),
    }
}

/// Random numbers for a worker's ids and hashes.
pub(super) fn seed() -> Result<[u64; 4], StartError> {
    use ring::rand::{SecureRandom, SystemRandom};
    let mut bytes = [0u8; 32];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| StartError::Control("the system has no random numbers".to_owned()))?;
    let mut seed = [0u64; 4];
    for (word, chunk) in seed.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*chunk);
    }
    Ok(seed)
}

/// How long a start waits for key sets, and for addresses.
const FIRST_KEYS: Duration = Duration::from_secs(5);
/// See [`FIRST_KEYS`].
const FIRST_ADDRESSES: Duration = Duration::from_secs(3);
/// How often files and names are looked at.
const LOOK: Duration = Duration::from_millis(500);
