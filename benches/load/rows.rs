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
            Self::BulkDown { .. } | Self::BulkUp { .. } => "ms/GB",
            Self::IdleKeepAlive { .. } | Self::IdleStream { .. } => "bytes",
            Self::Count { .. } => "allocations",
            Self::Closed { .. } | Self::Open { .. } => "us/request",
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
            Load::Count { .. } => matches!(subject, Subject::GatewayBare | Subject::GatewayFull),
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
        }
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
        !self.is_idle() && !matches!(self, Self::Count { .. })
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
    /// The gateway: token, one rule, record of metadata, no mask.
    GatewayBare,
    /// The gateway: token, 1,000 rules, mask, full record.
    GatewayFull,
}

impl Subject {
    pub(crate) const EVERY: [Self; 7] = [
        Self::Direct,
        Self::Haproxy,
        Self::HaproxyRelay,
        Self::Nginx,
        Self::Envoy,
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
            Self::GatewayBare => "weirgate bare",
            Self::GatewayFull => "weirgate full",
        }
    }

    /// Is it one of those that the gateway is compared with?
    pub(crate) fn is_peer(self) -> bool {
        !matches!(self, Self::Direct | Self::GatewayBare | Self::GatewayFull)
    }
}
