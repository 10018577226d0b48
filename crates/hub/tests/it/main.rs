//! Claims about downloads, against a hub that the tests start themselves on this machine.

#![allow(clippy::unwrap_used)] // a test that unwraps says where it failed

#[path = "../../../../fuzz/shared/allocation.rs"]
mod allocation;
mod claims;
mod damage;
mod fetching;
#[allow(dead_code)] // shared with rooms that need more of it
#[path = "../../../../fuzz/shared/mutation.rs"]
mod mutation;
mod refusal;
mod server;

#[test]
fn names_of_models_that_are_accepted_are_safe_and_read_the_same_again() {
    let words: &[&[u8]] = &[b"..", b"/", b"--", b"@", b":", b"C:", b"%2f", b"main"];
    mutation::hold(&claims::hub_names_seeds(), words, 5000, claims::hub_names);
}
