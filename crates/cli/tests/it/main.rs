//! Claims about the program as a person or another program meets it: every test runs the binary.

#![allow(clippy::unwrap_used)] // a test that unwraps says where it failed

mod bad_input;
mod bench;
mod convert;
mod figures;
mod help;
#[path = "../../../hub/tests/it/server.rs"]
mod hub_server;
mod key;
mod kill;
mod own_data;
mod program;
mod pull;
mod serve;
mod shapes;
mod talk;
mod training;
