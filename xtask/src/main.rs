//! `cargo tidy`: prints what breaks the rules of the house and fails if anything does.

#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let wanted = std::env::args().nth(1);
    if wanted.as_deref() != Some("tidy") {
        eprintln!("unknown chore; the chores are: `tidy`");
        return ExitCode::from(2);
    }
    match xtask::tidy::check(Path::new(xtask::tidy::ROOT)) {
        Ok(findings) if findings.is_empty() => {
            println!("tidy: nothing to complain about");
            ExitCode::SUCCESS
        }
        Ok(findings) => {
            for finding in &findings {
                eprintln!("{finding}");
            }
            eprintln!("tidy: {} broken rule(s)", findings.len());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("tidy: {error}");
            ExitCode::FAILURE
        }
    }
}
