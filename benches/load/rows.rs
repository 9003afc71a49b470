//! The rows of the table and the subjects that are compared.

/// What is put on a subject.
#[derive(Clone, Debug)]
pub(crate) enum Load {
    /// 1 KiB POST, 1 KiB answer; each connection sends the next when the answer is whole.
    Closed { connections: usize },
    /// The same at a fixed rate, whether answers come or not.
    Open { connections: usize, rate: u32 },
    /// Streams of [`crate::material::EVENTS`] events, one every 2 ms.
    Stream { connections: usize },
    /// A new TLS connection for each request.
    Handshake { connections: usize },
    /// 64 B there and back over a relay.
    Echo { connections: usize },
    /// As many bytes as the relay takes, to the caller.
    BulkDown { connections: usize },
    /// As many bytes as the relay takes, to the upstream.
    BulkUp { connections: usize },
    /// Open keep-alive connections that did one exchange each.
    IdleKeepAlive { connections: usize },
    /// Open event streams that stay silent after their first event.
    IdleStream { connections: usize },
    /// Allocations, not time or memory, of exchanges on so many connections at once.
    Count { exchange: Exchange, connections: usize },
    /// Requests that wait for a person, with or without signs of life, and others beside them.
    Held { count: usize, beats: bool },
    /// `pgbench -S`: each client reads one row by its key, and the next when that is there.
    Pgbench { mode: Mode, clients: usize },
    /// One answer of so many rows of 1,000 bytes, read and thrown away.
    Result { rows: u32 },
}

/// How pgbench sends its statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// One text with the key in it: each is another statement.
    Simple,
    /// Parsed, bound and executed each time: one text, the key a value.
    Extended,
    /// Parsed once on each connection.
    Prepared,
}

impl Mode {
    /// What `pgbench -M` calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Extended => "extended",
            Self::Prepared => "prepared",
        }
    }
}

/// Rows that are put on the same started subjects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// HTTP and the relays.
    Http,
    Postgres,
}

/// What allocations are counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exchange {
    /// 1 KiB POST, 1 KiB answer.
    Post,
    /// A whole stream of [`crate::material::EVENTS`] events.
    Stream,
    /// 64 B there and back over a relay.
    Echo,
}

impl Load {
    /// Unit of the CPU column.
    pub(crate) fn unit(&self) -> &'static str {
        match self {
            Self::Stream { .. } => "us/event",
            Self::Handshake { .. } => "us/handshake",
            Self::Echo { .. } => "us/echo",
            Self::BulkDown { .. } | Self::BulkUp { .. } | Self::Result { .. } => "ms/GB",
            Self::Pgbench { .. } => "us/tx",
            Self::IdleKeepAlive { .. } | Self::IdleStream { .. } => "bytes",
            Self::Count { .. } => "allocations",
            Self::Closed { .. } | Self::Open { .. } | Self::Held { .. } => "us/request",
        }
    }
}

/// One row: a load, over plain text or TLS.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) load: Load,
    pub(crate) tls: bool,
    pub(crate) quick: bool,
    pub(crate) default: bool,
    /// Is it one of `--targets`?
    pub(crate) target: bool,
}

impl Row {
    /// Does this subject take part? L4 has no direct path (there is no relay to compare with), and
    /// the gateway's relay has no masking: `full` is the one with full record.
    pub(crate) fn runs(&self, subject: Subject) -> bool {
        match self.load {
            // Counted by an allocator of the gateway's own.
            Load::Count { .. } | Load::Held { .. } => subject.is_gateway(),
            _ if self.load.family() == Family::Postgres => {
                matches!(subject, Subject::Direct | Subject::Pgbouncer) || subject.is_gateway()
            }
            _ if subject == Subject::Pgbouncer => false,
            _ if self.load.is_l4() => subject != Subject::Direct && subject != Subject::Envoy,
            _ if subject == Subject::HaproxyRelay => false,
            Load::Handshake { .. } => subject != Subject::Direct,
            _ => true,
        }
    }
}

impl Load {
    /// How many connections it holds.
    pub(crate) fn connections(&self) -> usize {
        match *self {
            Self::Closed { connections }
            | Self::Open { connections, .. }
            | Self::Stream { connections }
            | Self::Handshake { connections }
            | Self::Echo { connections }
            | Self::BulkDown { connections }
            | Self::BulkUp { connections }
            | Self::IdleKeepAlive { connections }
            | Self::IdleStream { connections }
            | Self::Count { connections, .. } => connections,
            Self::Pgbench { clients, .. } => clients,
            Self::Result { .. } => 1,
            Self::Held { count, .. } => count,
        }
    }

    /// Which subjects it is put on.
    pub(crate) fn family(&self) -> Family {
        match self {
            Self::Pgbench { .. } | Self::Result { .. } => Family::Postgres,
            _ => Family::Http,
        }
    }

    /// Are bytes counted, not exchanges?
    pub(crate) fn is_bulk(&self) -> bool {
        matches!(self, Self::BulkDown { .. } | Self::BulkUp { .. } | Self::Result { .. })
    }

    /// Is this one of the rows that need the gateway's `tcp` listeners?
    pub(crate) fn is_l4(&self) -> bool {
        matches!(
            self,
            Self::Echo { .. }
                | Self::BulkDown { .. }
                | Self::BulkUp { .. }
                | Self::Count { exchange: Exchange::Echo, .. }
        )
    }

    /// Is time measured, not memory or allocations?
    pub(crate) fn is_timed(&self) -> bool {
        !self.is_idle() && !matches!(self, Self::Count { .. } | Self::Held { .. })
    }

    /// Is memory measured, not time?
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self, Self::IdleKeepAlive { .. } | Self::IdleStream { .. })
    }
}

/// Every row there is; `idle` connections in the memory rows.
pub(crate) fn every(idle: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    for tls in [false, true] {
        let leg = if tls { "tls" } else { "plain" };
        let mut row = |what: &str, load: Load, quick: bool| {
            let name = format!("{what}-{leg}");
            let target = matches!(load, Load::Closed { connections: 64 } | Load::Count { .. });
            rows.push(Row { name, load, tls, quick, default: true, target });
        };
        row("l7-1", Load::Closed { connections: 1 }, !tls);
        row("l7-16", Load::Closed { connections: 16 }, false);
        row("l7-64", Load::Closed { connections: 64 }, true);
        row("l7-256", Load::Closed { connections: 256 }, false);
        row("open-3000", Load::Open { connections: 64, rate: 3_000 }, !tls);
        row("sse-32", Load::Stream { connections: 32 }, !tls);
        if tls {
            row("handshake-16", Load::Handshake { connections: 16 }, false);
        }
        row("idle-keepalive", Load::IdleKeepAlive { connections: idle }, !tls);
        row("idle-sse", Load::IdleStream { connections: idle }, false);
        row("alloc-post", Load::Count { exchange: Exchange::Post, connections: 64 }, true);
        row("alloc-sse", Load::Count { exchange: Exchange::Stream, connections: 64 }, false);
    }
    // Relays know the caller by its certificate and by nothing else: TLS to the proxy, plain text
    // behind it. There is no relay in plain text to the caller that could be measured.
    let mut row = |what: &str, load: Load| {
        let name = format!("{what}-mtls");
        rows.push(Row { name, load, tls: true, quick: false, default: true, target: true });
    };
    row("l4-echo-64", Load::Echo { connections: 64 });
    row("l4-down-2", Load::BulkDown { connections: 2 });
    row("l4-up-2", Load::BulkUp { connections: 2 });
    row("alloc-echo", Load::Count { exchange: Exchange::Echo, connections: 64 });
    // Off by default: those of PostgreSQL need a server, and take as long as all others together.
    let mut row = |name: String, load: Load| {
        rows.push(Row { name, load, tls: false, quick: false, default: false, target: false });
    };
    // Minutes of work on a gateway of their own.
    for (name, beats) in [("held-10000", false), ("held-10000-beats", true)] {
        row(name.to_owned(), Load::Held { count: 10_000, beats });
    }
    for mode in [Mode::Simple, Mode::Extended, Mode::Prepared] {
        for clients in [1, 8, 32] {
            row(format!("pgbench-{}-{clients}", mode.name()), Load::Pgbench { mode, clients });
        }
    }
    row("pgbench-result-1gb".to_owned(), Load::Result { rows: 1_000_000 });
    rows
}

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// No proxy: what the load and the upstream cost by themselves.
    Direct,
    Haproxy,
    /// HAProxy with 64 KiB buffers, for the relay rows.
    HaproxyRelay,
    Nginx,
    Envoy,
    Pgbouncer,
    /// The gateway: token, one rule, record of metadata, no mask.
    GatewayBare,
    /// The gateway: token, 1,000 rules, mask, full record.
    GatewayFull,
}

impl Subject {
    pub(crate) const EVERY: [Self; 8] = [
        Self::Direct,
        Self::Haproxy,
        Self::HaproxyRelay,
        Self::Nginx,
        Self::Envoy,
        Self::Pgbouncer,
        Self::GatewayBare,
        Self::GatewayFull,
    ];

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Haproxy | Self::HaproxyRelay => "haproxy",
            Self::Nginx => "nginx",
            Self::Envoy => "envoy",
            Self::Pgbouncer => "pgbouncer",
            Self::GatewayBare => "bare",
            Self::GatewayFull => "full",
        }
    }

    /// Its name in the table.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Haproxy => "HAProxy",
            Self::HaproxyRelay => "HAProxy 64 KiB",
            Self::Nginx => "nginx",
            Self::Envoy => "Envoy",
            Self::Pgbouncer => "PgBouncer",
            Self::GatewayBare => "weirgate bare",
            Self::GatewayFull => "weirgate full",
        }
    }

    /// Is it one of those that the gateway is compared with?
    pub(crate) fn is_peer(self) -> bool {
        self != Self::Direct && !self.is_gateway()
    }

    /// Is it the gateway, in one of its configurations?
    pub(crate) fn is_gateway(self) -> bool {
        matches!(self, Self::GatewayBare | Self::GatewayFull)
    }
}
