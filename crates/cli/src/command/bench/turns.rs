//! Rounds that wait for other programs, so that all meet the same machine.

use crate::failure::Failure;
use crate::output::json_to_stdout;
use serde_json::json;

/// Whether this program takes turns with others.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(super) struct Turns {
    /// Before each round, print `{"ready": …}` and wait for a line on stdin, so that programs can take turns
    #[arg(long, requires = "json")]
    turns: bool,
}

impl Turns {
    /// Waits until it is this program's turn.
    pub(super) fn wait(self, what: &str) -> Result<(), Failure> {
        if !self.turns {
            return Ok(());
        }
        json_to_stdout(&json!({ "ready": what }))?;
        let mut line = String::new();
        let read = std::io::stdin().read_line(&mut line);
        match read.map_err(|error| Failure::Failed(format!("cannot read stdin: {error}")))? {
            0 => Err(Failure::Failed("stdin ended before the last turn".into())),
            _ => Ok(()),
        }
    }
}
