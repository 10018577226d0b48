//! The recipes that ship inside the program; the files stand in `recipes/` at the top of the project.

/// A recipe that can be named without a file.
#[derive(Debug, Clone, Copy)]
pub struct BuiltIn {
    /// The name to type.
    pub name: &'static str,
    /// Its TOML text.
    pub text: &'static str,
}

/// Every built-in recipe, in the order in which they are listed to people.
pub const BUILT_IN: &[BuiltIn] = &[
    BuiltIn { name: "r1-tiny", text: include_str!("../../../../recipes/r1-tiny.toml") },
    BuiltIn {
        name: "balance-ablation",
        text: include_str!("../../../../recipes/balance-ablation.toml"),
    },
    BuiltIn { name: "code-small", text: include_str!("../../../../recipes/code-small.toml") },
    BuiltIn { name: "gsm8k", text: include_str!("../../../../recipes/gsm8k.toml") },
];
