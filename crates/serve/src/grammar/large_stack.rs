//! Runs the compiler of grammars where it cannot run out of stack, and says in brief what it says.

/// `llguidance` descends into schemas and their references by recursion. A level takes some
/// kilobytes, and [`super::check_schema`] lets no more levels pass than fit many times.
const STACK_BYTES: usize = 128 << 20;

/// What `work` returns. Errors: no thread, or a panic.
pub(super) fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        let thread = thread.spawn_scoped(scope, work).map_err(|error| error.to_string())?;
        thread.join().map_err(|_| "the compiler of grammars failed".to_owned())
    })
}

/// Letters of an error at most.
const MAX_ERROR_CHARS: usize = 300;

/// What an error of `llguidance` says, without the traces that it may carry.
pub(super) fn brief(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let traces = ["<backtrace>", "<non-verbose/>", "<state>"];
    let end = traces.iter().filter_map(|trace| text.find(trace)).min().unwrap_or(text.len());
    text[..end].trim_end().chars().take(MAX_ERROR_CHARS).collect()
}
