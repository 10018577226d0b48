//! How a command ends badly: what is said on stderr, and the exit code.

use std::fmt::Display;
use std::process::ExitCode;

use crate::terminal::harmless;

/// Exit code of work that was stopped by Ctrl-C.
pub(crate) const INTERRUPTED: u8 = 130;

/// Why a command did not do what it was asked.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// It was asked for something that makes no sense: exit code 2.
    Usage(String),
    /// It tried and could not: exit code 1.
    Failed(String),
    /// It was stopped, and this is how to go on: exit code 130.
    Interrupted(String),
    /// Whoever read the output went away: silence, exit code 0.
    ReaderGone,
}

impl Failure {
    /// A failure with a line of advice.
    pub(crate) fn hinted(what: impl Display, hint: impl Display) -> Failure {
        Failure::Failed(format!("{what}\nhint: {hint}"))
    }

    /// Tells the person, and returns the code for the caller.
    pub(crate) fn report(self) -> ExitCode {
        let Some((text, code)) = self.said() else { return ExitCode::SUCCESS };
        crate::output::to_stderr(&format!("{text}\n"));
        ExitCode::from(code)
    }

    /// What is said and the exit code; nothing where nobody listens. Names in a message may come
    /// from a hostile file, so it cannot steer the terminal.
    fn said(self) -> Option<(String, u8)> {
        let (text, code) = match self {
            Failure::Usage(text) => (format!("error: {text}"), 2),
            Failure::Failed(text) => (format!("error: {text}"), 1),
            Failure::Interrupted(text) => (text, INTERRUPTED),
            Failure::ReaderGone => return None,
        };
        Some((harmless(&text), code))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Failure::ReaderGone,
            _ => Failure::Failed(format!("cannot write the output: {error}")),
        }
    }
}

macro_rules! from_library_error {
    ($($error:ty),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Failure::Failed(error.to_string())
            }
        }
    )*};
}
from_library_error!(
    fathom_checkpoint::Error,
    fathom_engine::Error,
    fathom_hub::Error,
    fathom_model::Error,
    fathom_serve::store::StoreError,
    fathom_text::Error,
    fathom_train::Error,
    fathom_train::recipe::RecipeError,
    fathom_train::run_dir::RunDirError
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_message_cannot_steer_the_terminal() {
        let tensor = "\x1b]0;title\x07\x1b[2Jw\r";
        let failure = Failure::hinted(format!("no tensor `{tensor}`"), "look again");
        let (text, code) = failure.said().unwrap();
        assert_eq!(
            text,
            "error: no tensor `\u{fffd}]0;title\u{fffd}\u{fffd}[2Jw\u{fffd}`\nhint: look again"
        );
        assert_eq!(code, 1);
        assert!(Failure::ReaderGone.said().is_none());
    }
}
