//! Many sequences at once, for a server: continuous batching over one cache.
//!
//! Callers' threads hand jobs in (`front`) through a queue (`inbox`). The engine's own thread owns
//! model and cache and goes round (`scheduler`): it takes jobs in (`admit`), says whose rows run and
//! finds blocks for them (`plan`), runs one pass over all of them (`pass`), draws (`draws`) and tells
//! the listeners. What a sequence says depends on its job only.

mod admit;
mod draws;
mod front;
mod guesses;
mod inbox;
mod job;
mod pass;
mod plan;
mod scheduler;
mod sequence;
#[cfg(test)]
mod tests;

pub use front::{Service, ServiceSettings};
pub use job::{
    BlockStore, Constraint, Ended, Engine, Event, Failed, Job, Listener, Refused, Stats, Ticket,
    Token,
};
