//! What can be set, with defaults fit for a mesh of sidecars.

use std::time::Duration;

/// What to do when a client refuses a response of several resources and its text names none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Isolation {
    /// Send nothing until one of them changes: a refusal is answered by silence.
    #[default]
    Off,
    /// Send what changed once more, one resource at a time, to find the one to blame.
    OneAtATime,
}

/// Limits and habits of a stream's state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSettings {
    /// Bytes of resources after which a delta response is cut, and the rest sent in the next. Default 32 KiB: the unit
    /// of memory for a slow client.
    pub delta_part_bytes: usize,
    /// The same for state-of-the-world responses of types that may be partial. Default 1 MiB.
    pub state_of_the_world_part_bytes: usize,
    /// How long a client may leave a response unacknowledged before its stream is closed. Default 60 s.
    pub acknowledge_limit: Duration,
    /// How long a make-before-break step may wait before [`Event::Stalled`](crate::Event::Stalled). Default 10 s.
    pub stall_limit: Duration,
    /// After a delta client reconnects and says which clusters and endpoints it holds, how long the removal of those
    /// that are gone waits for it to ask for its listeners, which may still need them. Default 500 ms.
    pub reconnect_grace: Duration,
    /// See [`Isolation`]. Default off.
    pub isolation: Isolation,
    /// Most names in one request and most names subscribed to for one type. Default 200,000.
    pub names_limit: usize,
    /// Longest name, in bytes. Default 4096.
    pub name_bytes_limit: usize,
    /// Most types on one aggregated stream. Default 32.
    pub types_limit: usize,
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self {
            delta_part_bytes: 32 * 1024,
            state_of_the_world_part_bytes: 1024 * 1024,
            acknowledge_limit: Duration::from_secs(60),
            stall_limit: Duration::from_secs(10),
            reconnect_grace: Duration::from_millis(500),
            isolation: Isolation::Off,
            names_limit: 200_000,
            name_bytes_limit: 4096,
            types_limit: 32,
        }
    }
}

/// Settings of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Of each stream.
    pub stream: StreamSettings,
    /// Largest request, in bytes. Default 16 MiB: a reconnecting client lists every resource it holds.
    pub request_bytes_limit: usize,
    /// Most streams on one connection. Default 100,000, for aggregators that share one.
    pub concurrent_streams: u32,
    /// How often an idle connection is pinged. Default 30 s.
    pub keepalive_interval: Duration,
    /// How long the answer to a ping may take before the connection is closed. Default 10 s.
    pub keepalive_timeout: Duration,
    /// How long a TLS handshake may take. Default 10 s.
    pub handshake_timeout: Duration,
    /// How long a stream may stay open without a first request. Default 10 s.
    pub first_request_timeout: Duration,
    /// After how long a connection is closed gracefully, so that replicas share the load. Each connection's own limit
    /// is 10 % more or less. Default `None`: never.
    pub connection_age: Option<Duration>,
    /// How long streams may go on after the connection was asked to close. Default 5 s.
    pub drain_timeout: Duration,
    /// Over how long the connections are asked to close at [`Server::shutdown`](crate::Server::shutdown), each at a random
    /// moment of its own, so that clients do not all turn to other replicas at once. Default zero: all at once.
    pub shutdown_spread: Duration,
    /// New streams per second, beyond which they are refused with `RESOURCE_EXHAUSTED`; one second's worth may come at
    /// once. Default `None`: no limit.
    pub new_streams_per_second: Option<u32>,
    /// How long a client may leave a response unread, or a connection without ever opening a stream, before the
    /// connection is closed. Default 60 s.
    pub read_limit: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            stream: StreamSettings::default(),
            request_bytes_limit: 16 * 1024 * 1024,
            concurrent_streams: 100_000,
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            first_request_timeout: Duration::from_secs(10),
            connection_age: None,
            drain_timeout: Duration::from_secs(5),
            shutdown_spread: Duration::ZERO,
            new_streams_per_second: None,
            read_limit: Duration::from_secs(60),
        }
    }
}
