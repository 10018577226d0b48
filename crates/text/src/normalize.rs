//! Unicode normal forms, which the Qwen2 vocabularies apply before cutting text.

use std::borrow::Cow;

use serde_json::{Value, json};
use unicode_normalization::UnicodeNormalization;

/// A normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Nfc,
    Nfd,
    Nfkc,
    Nfkd,
}

const FORMS: [(&str, Form); 4] =
    [("NFC", Form::Nfc), ("NFD", Form::Nfd), ("NFKC", Form::Nfkc), ("NFKD", Form::Nfkd)];

/// Reads a `normalizer`: the forms to apply one after the other; `None` for any other kind.
pub(crate) fn from_json(normalizer: &Value) -> Option<Vec<Form>> {
    let form = |stage: &Value| {
        FORMS.iter().find(|(name, _)| stage["type"] == *name).map(|(_, form)| *form)
    };
    match normalizer {
        Value::Null => Some(Vec::new()),
        _ if normalizer["type"] == "Sequence" => {
            normalizer["normalizers"].as_array()?.iter().map(form).collect()
        }
        _ => Some(vec![form(normalizer)?]),
    }
}

/// The `normalizer` of a file that applies these forms.
pub(crate) fn to_json(forms: &[Form]) -> Value {
    let stage = |form: &Form| {
        let name = FORMS.iter().find(|(_, known)| known == form);
        json!({"type": name.expect("the table holds all").0})
    };
    match forms {
        [] => Value::Null,
        [form] => stage(form),
        _ => {
            json!({"type": "Sequence", "normalizers": forms.iter().map(stage).collect::<Vec<_>>()})
        }
    }
}

/// Applies the forms.
pub(crate) fn normalized<'t>(forms: &[Form], text: &'t str) -> Cow<'t, str> {
    if forms.is_empty() || text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let apply = |text: Cow<'t, str>, form: &Form| -> Cow<'t, str> {
        match form {
            Form::Nfc if unicode_normalization::is_nfc(&text) => text,
            Form::Nfc => Cow::Owned(text.nfc().collect()),
            Form::Nfd => Cow::Owned(text.nfd().collect()),
            Form::Nfkc => Cow::Owned(text.nfkc().collect()),
            Form::Nfkd => Cow::Owned(text.nfkd().collect()),
        }
    };
    forms.iter().fold(Cow::Borrowed(text), apply)
}
