//! Many sequences at once, for a server: continuous batching over one cache.

mod job;

pub use job::{
    BlockStore, Constraint, Ended, Engine, Event, Failed, Job, Listener, Refused, Stats, Ticket,
    Token,
};
