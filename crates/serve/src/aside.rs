//! Work that takes a while, away from the threads that speak to clients.
//!
//! Long prompts are cut into tokens here and schemas become grammars; meanwhile other answers stream.

use crate::refusal::Refusal;
use tokio::task::spawn_blocking;

/// Threads for such work, at most. More would only take the processor from the engine.
pub(crate) const THREADS: usize = 4;

/// Does the work on a thread of its own. If nobody waits any more, its result is dropped.
///
/// Errors: those of the work; 500 if it panicked.
pub(crate) async fn aside<T, W>(work: W) -> Result<T, Refusal>
where
    T: Send + 'static,
    W: FnOnce() -> Result<T, Refusal> + Send + 'static,
{
    let panicked = |_| Err(Refusal::internal("the request could not be prepared"));
    spawn_blocking(work).await.unwrap_or_else(panicked)
}
