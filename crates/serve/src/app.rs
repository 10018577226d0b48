//! What all routes share: the model, the engine, the store, and how the server is set.

use crate::auth::Keys;
use crate::grammar::Grammars;
use crate::metrics::Metrics;
use crate::served::Served;
use crate::store::Store;
use fathom_engine::service::Engine;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The state of a server.
pub struct App {
    /// The model as clients meet it.
    pub served: Served,
    /// What runs it.
    pub engine: Arc<dyn Engine>,
    /// JSON and calls of tools as constraints.
    pub grammars: Grammars,
    /// Keys, accounts and conversations.
    pub store: Arc<Store>,
    /// What `/metrics` tells.
    pub metrics: Metrics,
    /// How the server is set.
    pub settings: Settings,
    /// When the server was made, in seconds since 1970.
    pub started_unix: u64,
}

/// As routes hold it.
pub type Shared = Arc<App>;

/// How a server is set. What it does not say is not done.
pub struct Settings {
    /// Origins of web pages that may ask, such as `https://example.org`; `*` is all. Others may not.
    pub origins: Vec<String>,
    /// Names by which this server may be called besides those of this machine, where it listens to
    /// this machine alone.
    pub hosts: Vec<String>,
    /// Largest body of a request.
    pub max_body_bytes: usize,
    /// Time for the head of a request to arrive, and for a connection to stay open between requests.
    pub header_limit: Duration,
    /// Time for the body of a request to arrive.
    pub body_limit: Duration,
    /// Time for an answer to be complete.
    pub request_limit: Duration,
    /// Time for a client to take something of what is sent.
    pub write_limit: Duration,
    /// Silence after which a waiting client is told that it is not forgotten.
    pub keep_alive: Duration,
    /// Connections at a time.
    pub max_connections: usize,
    /// Time for answers to end when the server stops.
    pub stop_limit: Duration,
    /// Whose requests are answered.
    pub keys: Keys,
    /// Hears a line about each request; none: nothing is logged.
    pub log: Option<Log>,
    /// Whether prompts are in the log.
    pub log_prompts: bool,
}

/// Hears lines of a log.
pub type Log = Box<dyn Fn(&str) + Send + Sync>;

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            origins: Vec::new(),
            hosts: Vec::new(),
            max_body_bytes: 32 << 20,
            header_limit: Duration::from_secs(30),
            body_limit: Duration::from_secs(60),
            request_limit: Duration::from_secs(30 * 60),
            write_limit: Duration::from_secs(60),
            keep_alive: Duration::from_secs(10),
            max_connections: 1024,
            stop_limit: Duration::from_secs(5),
            keys: Keys::default(),
            log: None,
            log_prompts: false,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("origins", &self.origins)
            .field("hosts", &self.hosts)
            .field("max_body_bytes", &self.max_body_bytes)
            .field("request_limit", &self.request_limit)
            .field("log_prompts", &self.log_prompts)
            .finish_non_exhaustive()
    }
}

impl App {
    /// The state of a server that starts now.
    pub fn new(
        served: Served,
        engine: Arc<dyn Engine>,
        grammars: Grammars,
        store: Arc<Store>,
        settings: Settings,
    ) -> App {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let metrics = Metrics::default();
        let started_unix = since_1970.as_secs();
        App { served, engine, grammars, store, metrics, settings, started_unix }
    }

    /// Writes a line into the log, if there is one.
    pub fn log(&self, line: impl FnOnce() -> String) {
        if let Some(log) = &self.settings.log {
            log(&line());
        }
    }
}
