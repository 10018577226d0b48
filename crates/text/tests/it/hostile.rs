//! Tokenizer files that are broken or of another kind.

use fathom_text::{Error, Tokenizer};

use crate::samples::tokenizer;

fn open_changed(from: &str, to: &str) -> Result<Tokenizer, Error> {
    let json = String::from_utf8(tokenizer().json().to_vec()).unwrap();
    assert!(json.contains(from), "{from}");
    Tokenizer::from_bytes(json.replacen(from, to, 1))
}

#[test]
fn other_kinds_are_refused_by_name() {
    let check = |from: &str, to: &str, expected: &str| {
        let Err(error) = open_changed(from, to) else { panic!("accepted {to}") };
        assert!(error.to_string().contains(expected), "{to}: {error}");
    };
    check("\"type\": \"BPE\"", "\"type\": \"Unigram\"", "`model` is `Unigram`");
    check("\"unk_token\": null", "\"unk_token\": \"a\"", "unknown token");
    check("\"dropout\": null", "\"dropout\": 0.1", "`model.dropout` is 0.1");
    check("\"byte_fallback\": false", "\"byte_fallback\": true", "bytes suffice");
    check("\"normalizer\": null", "\"normalizer\": {\"type\": \"Lowercase\"}", "`normalizer`");
    check(
        "\"decoder\": {\"type\": \"ByteLevel\"",
        "\"decoder\": {\"type\": \"WordPiece\"",
        "`decoder`",
    );
    check("\"behavior\": \"Isolated\"", "\"behavior\": \"Sideways\"", "`pre_tokenizer`");
    check("{\"Regex\": \" ?", "{\"Regex\": \"(?", "bad pattern");
    check("\"add_prefix_space\": false", "\"add_prefix_space\": true", "prefix space");
    check("{\"id\": 0,", "{\"id\": 9,", "token `<｜begin▁of▁sentence｜>` has id 9");
    check("\"!\": 10", "\"!\": 4000000000", "has id 4000000000");
    check("\"!\": 10", "\"!\": -1", "is no tokenizer file");
    check("      [\"", "      [\"nowhere", "contradicts itself");
}

#[test]
fn truncated_files_are_errors() {
    let json = tokenizer().json();
    for n in (0..json.len() - 2).step_by(97) {
        assert!(Tokenizer::from_bytes(&json[..n]).is_err(), "cut at {n}");
    }
    let missing = Tokenizer::open("/nonexistent/tokenizer.json");
    assert!(matches!(missing, Err(Error::Read { .. })));
}

#[test]
fn normalizers_that_are_unicode_forms_apply() {
    let nfc = open_changed("\"normalizer\": null", "\"normalizer\": {\"type\": \"NFC\"}").unwrap();
    assert_eq!(nfc.encode("e\u{301}"), tokenizer().encode("é"));
    assert_eq!(nfc.encode_plain("e\u{301}"), tokenizer().encode("é"));
    assert_eq!(nfc.encode_plain("<think>"), tokenizer().encode_plain("<think>"));
}
