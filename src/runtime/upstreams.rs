//! Where resources are: a table of the config, and addresses as control's resolver found them.

use super::opening::Opening;
use crate::base::ResourceId;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Where one resource is.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// A name that the resolver knows, or a literal address (without brackets).
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// The handshake's settings and the name that the certificate must bear, for TLS.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// How connections begin. Without TLS nothing is said or asked before the session.
    pub opening: Opening,
}

/// All resources, by [`ResourceId`], of one generation of the config.
///
/// Exchanges finish under the generation that decided them, so the tables before stay findable:
/// an id of one is never looked up in another.
#[derive(Clone, Debug, Default)]
pub struct Upstreams {
    generation: u64,
    list: Arc<[Upstream]>,
    older: Vec<(u64, Arc<[Upstream]>)>,
}

impl Upstreams {
    /// In the order of the config.
    #[must_use]
    pub fn new(generation: u64, list: Vec<Upstream>) -> Self {
        Self { generation, list: list.into(), older: Vec::new() }
    }

    /// Keeps what `before` knows, for exchanges that it decided.
    #[must_use]
    pub fn after(mut self, before: &Self) -> Self {
        self.older.push((before.generation, Arc::clone(&before.list)));
        self.older.extend(before.older.iter().take(OLDER_MAX - 1).cloned());
        self
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn find(&self, generation: u64, resource: ResourceId) -> Option<&Upstream> {
        let older = || self.older.iter().find(|(known, _)| *known == generation);
        let list = if generation == self.generation { &self.list } else { &older()?.1 };
        list.get(resource.index())
    }
}

/// What the names resolve to; an immutable snapshot.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    names: HashMap<String, Vec<IpAddr>>,
}

impl Addresses {
    /// Puts the addresses of `name`, in the order to try them.
    pub fn insert(&mut self, name: impl Into<String>, found: Vec<IpAddr>) {
        self.names.insert(name.into(), found);
    }

    /// The addresses of `upstream`; a literal needs no entry. Empty when the name has none.
    pub(super) fn of(&self, upstream: &Upstream) -> Vec<SocketAddr> {
        let port = upstream.port;
        if let Ok(literal) = upstream.host.parse::<IpAddr>() {
            return vec![SocketAddr::new(literal, port)];
        }
        let found = self.names.get(&upstream.host).map(Vec::as_slice).unwrap_or_default();
        found.iter().take(ATTEMPTS_MAX).map(|ip| SocketAddr::new(*ip, port)).collect()
    }
}

/// Generations that are kept for exchanges in hand.
const OLDER_MAX: usize = 8;
/// Addresses that one connect tries.
const ATTEMPTS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_needs_no_resolver_and_a_name_does() {
        let upstream = |host: &str| Upstream {
            host: host.to_owned(),
            port: 9,
            tls: None,
            opening: Opening::Direct,
        };
        let mut addresses = Addresses::default();
        assert_eq!(addresses.of(&upstream("127.0.0.1")).len(), 1);
        assert_eq!(addresses.of(&upstream("::1")).len(), 1);
        assert!(addresses.of(&upstream("api.example")).is_empty());
        addresses.insert("api.example", vec![IpAddr::from([1, 2, 3, 4]); 9]);
        assert_eq!(addresses.of(&upstream("api.example")).len(), ATTEMPTS_MAX);
    }
}
