//! Claims about downloads, against a hub that the tests start themselves on this machine.

#![allow(clippy::unwrap_used)] // a test that unwraps says where it failed

mod damage;
mod fetching;
mod refusal;
mod server;
