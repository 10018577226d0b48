//! Claims about the program as a person or another program meets it: every test runs the binary.

mod bad_input;
mod figures;
mod help;
mod program;
mod talk;
mod training;
