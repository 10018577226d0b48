//! The `fathom` program: reads the command line, runs one command, says how it ended.
#![forbid(unsafe_code)]

mod command;
mod converting;
mod failure;
mod fetching;
mod interrupt;
mod memory;
mod opened;
mod output;
mod progress;
mod sizes;
mod store_path;
mod talk;
mod terminal;
mod vocabulary;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = match command::Cli::try_parse() {
        Ok(cli) => cli.command.run(),
        Err(error) => {
            let _ = error.print(); // nobody is left to tell
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    outcome.map_or_else(failure::Failure::report, |()| ExitCode::SUCCESS)
}
