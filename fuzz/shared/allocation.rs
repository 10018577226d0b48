//! A bound on what a reader allocates, measured on the thread that reads.

/// Runs `read` and asserts that it never held more than `times` its input and `floor_bytes`.
pub(crate) fn bounded<T>(
    input: &[u8],
    times: u64,
    floor_bytes: u64,
    read: impl FnOnce() -> T,
) -> T {
    let mut result = None;
    let info = allocation_counter::measure(|| result = Some(read()));
    let (held, most) = (info.bytes_max, times * input.len() as u64 + floor_bytes);
    assert!(
        held <= most,
        "{} bytes of input made the reader hold {held}, at most {most}",
        input.len()
    );
    result.expect("the closure has run")
}

/// Asserts that a message says something and names `place`.
pub(crate) fn clear(message: &str, place: &str) {
    assert!(message.contains(place), "the message does not name `{place}`: {message}");
    assert!(message.len() > place.len() + 3, "the message says nothing: {message}");
}
