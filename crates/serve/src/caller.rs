//! Who asks. Made by [`crate::auth`] for every request, read by routes from the request's extensions.

/// Somebody whose key was accepted, or anybody where no keys are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The key's row in the store; none where no keys are asked for.
    pub key_id: Option<i64>,
    /// Separates cached prompts and conversations of different people. 0 where no keys are asked for.
    pub owner: u64,
}
