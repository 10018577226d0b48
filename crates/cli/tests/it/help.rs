//! The help texts are committed: a new flag is a decision.
//!
//! After a deliberate change, `FATHOM_UPDATE=1 cargo test -p fathom-cli help` writes them again.

use crate::program::fathom;
use std::path::Path;

#[test]
fn help_is_the_committed_one() {
    let cases: &[(&str, &[&str])] = &[
        ("fathom", &["--help"]),
        ("run", &["run", "--help"]),
        ("serve", &["serve", "--help"]),
        ("pull", &["pull", "--help"]),
        ("train", &["train", "--help"]),
        ("inspect", &["inspect", "--help"]),
        ("plan", &["plan", "--help"]),
        ("logits", &["logits", "--help"]),
        ("tokenizer", &["tokenizer", "--help"]),
        ("tokenizer-encode", &["tokenizer", "encode", "--help"]),
        ("tokenizer-decode", &["tokenizer", "decode", "--help"]),
        ("tokenizer-compare", &["tokenizer", "compare", "--help"]),
        ("key", &["key", "--help"]),
        ("key-add", &["key", "add", "--help"]),
        ("key-prices", &["key", "prices", "--help"]),
        ("bench", &["bench", "--help"]),
        ("bench-train", &["bench", "train", "--help"]),
        ("bench-prefill", &["bench", "prefill", "--help"]),
        ("bench-decode", &["bench", "decode", "--help"]),
        ("bench-batch", &["bench", "batch", "--help"]),
        ("bench-drafts", &["bench", "drafts", "--help"]),
        ("bench-kernels", &["bench", "kernels", "--help"]),
        ("bench-tokenizer", &["bench", "tokenizer", "--help"]),
        ("bench-start", &["bench", "start", "--help"]),
        ("doctor", &["doctor", "--help"]),
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, args) in cases {
        let ended = fathom(root, args);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{name}");
        let path = root.join(format!("tests/it/help/{name}.txt"));
        if std::env::var_os("FATHOM_UPDATE").is_some() {
            std::fs::write(&path, &ended.stdout).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(ended.stdout, committed, "{}", path.display());
    }
}

#[test]
fn without_arguments_the_help_is_shown_as_wrong_usage() {
    let ended = fathom(Path::new("."), &[]);
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.contains("Usage: fathom"), "{ended:?}");
}
