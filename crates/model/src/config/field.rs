//! Reading of words from a JSON object: typed, with the word named in every complaint, and with a
//! memory of what was read so that words nobody asked for can be refused.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::error::ConfigError;

/// Words that a configuration may hold; recipes are held to this list.
pub const WORDS: &[&str] = &[
    "architectures",
    "attention_bias",
    "attention_dropout",
    "aux_loss_alpha",
    "bos_token_id",
    "dtype",
    "eos_token_id",
    "first_k_dense_replace",
    "head_dim",
    "hidden_act",
    "hidden_size",
    "initializer_range",
    "intermediate_size",
    "kv_lora_rank",
    "max_position_embeddings",
    "model_type",
    "moe_intermediate_size",
    "moe_layer_freq",
    "n_group",
    "n_routed_experts",
    "n_shared_experts",
    "norm_topk_prob",
    "num_attention_heads",
    "num_experts_per_tok",
    "num_hidden_layers",
    "num_key_value_heads",
    "num_nextn_predict_layers",
    "pad_token_id",
    "q_lora_rank",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "quantization_config",
    "rms_norm_eps",
    "rope_interleave",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "routed_scaling_factor",
    "scoring_func",
    "seq_aux",
    "sliding_window",
    "tie_word_embeddings",
    "topk_group",
    "topk_method",
    "torch_dtype",
    "use_sliding_window",
    "v_head_dim",
    "vocab_size",
];

/// Words inside `rope_scaling` and `quantization_config`.
const NESTED_WORDS: &[&str] = &[
    "activation_scheme",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "factor",
    "fmt",
    "high_freq_factor",
    "low_freq_factor",
    "mscale",
    "mscale_all_dim",
    "original_max_position_embeddings",
    "quant_method",
    "rope_theta",
    "rope_type",
    "scale_fmt",
    "type",
    "weight_block_size",
];

/// An object being read. `null` counts as absent, as in every published configuration.
#[derive(Debug)]
pub struct Fields<'a> {
    map: &'a Map<String, Value>,
    prefix: &'static str,
    model_type: &'static str,
    /// The words a person typed, none of which may go unread.
    typed: Option<&'a Map<String, Value>>,
    read: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(
        map: &'a Map<String, Value>,
        model_type: &'static str,
        typed: Option<&'a Map<String, Value>>,
    ) -> Self {
        Self { map, prefix: "", model_type, typed, read: RefCell::default() }
    }

    /// The object under `word`, if it is there.
    pub(crate) fn nested(&self, word: &'static str) -> Result<Option<Fields<'a>>, ConfigError> {
        let Some(value) = self.get(word) else { return Ok(None) };
        let map = value.as_object().ok_or_else(|| ConfigError::NotAnObject {
            field: self.path(word),
            found: describe(value),
        })?;
        let typed = self.typed.filter(|typed| typed.contains_key(word)).map(|_| map);
        let model_type = self.model_type;
        Ok(Some(Fields { map, prefix: word, model_type, typed, read: RefCell::default() }))
    }

    pub(crate) fn get(&self, word: &'static str) -> Option<&'a Value> {
        self.read.borrow_mut().insert(word);
        self.map.get(word).filter(|v| !v.is_null())
    }

    pub(crate) fn count(&self, word: &'static str) -> Result<Option<usize>, ConfigError> {
        let Some(value) = self.get(word) else { return Ok(None) };
        let count = value.as_u64().and_then(|n| usize::try_from(n).ok());
        count.map(Some).ok_or_else(|| self.wrong(word, "a whole number from 0 on", value))
    }

    pub(crate) fn needed_count(&self, word: &'static str) -> Result<usize, ConfigError> {
        self.count(word)?.ok_or_else(|| self.missing(word))
    }

    pub(crate) fn number(&self, word: &'static str) -> Result<Option<f64>, ConfigError> {
        let Some(value) = self.get(word) else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| self.wrong(word, "a number", value))
    }

    pub(crate) fn needed_number(&self, word: &'static str) -> Result<f64, ConfigError> {
        self.number(word)?.ok_or_else(|| self.missing(word))
    }

    pub(crate) fn flag(&self, word: &'static str) -> Result<Option<bool>, ConfigError> {
        let Some(value) = self.get(word) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.wrong(word, "true or false", value))
    }

    pub(crate) fn text(&self, word: &'static str) -> Result<Option<&'a str>, ConfigError> {
        let Some(value) = self.get(word) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.wrong(word, "a text", value))
    }

    /// One of `choices`, or `default` if the word is absent.
    pub(crate) fn choice<T: Copy>(
        &self,
        word: &'static str,
        choices: &[(&str, T)],
        expected: &'static str,
        default: T,
    ) -> Result<T, ConfigError> {
        let Some(text) = self.text(word)? else { return Ok(default) };
        let found = choices.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice);
        found.ok_or_else(|| self.wrong(word, expected, &Value::from(text)))
    }

    /// A token id, or a list of them.
    pub(crate) fn token_ids(&self, word: &'static str) -> Result<Vec<u32>, ConfigError> {
        let Some(value) = self.get(word) else { return Ok(Vec::new()) };
        let id = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
        let ids = match value.as_array() {
            Some(list) => list.iter().map(id).collect(),
            None => id(value).map(|id| vec![id]),
        };
        ids.ok_or_else(|| self.wrong(word, "a token id or a list of token ids", value))
    }

    pub(crate) fn token_id(&self, word: &'static str) -> Result<Option<u32>, ConfigError> {
        let Some(value) = self.get(word) else { return Ok(None) };
        let id = value.as_u64().and_then(|n| u32::try_from(n).ok());
        id.map(Some).ok_or_else(|| self.wrong(word, "a token id", value))
    }

    /// Refuses a value that is there but is not the only one we can compute with.
    pub(crate) fn only<T: PartialEq>(
        &self,
        word: &'static str,
        found: Option<T>,
        allowed: T,
        hint: &'static str,
    ) -> Result<(), ConfigError> {
        match found {
            Some(value) if value != allowed => Err(self.unsupported(word, hint)),
            _ => Ok(()),
        }
    }

    pub(crate) fn unsupported(&self, word: &'static str, hint: &'static str) -> ConfigError {
        let found = self.map.get(word).map_or_else(|| "absent".to_owned(), describe);
        ConfigError::Unsupported { field: self.path(word), found, hint }
    }

    pub(crate) fn wrong(
        &self,
        word: &'static str,
        expected: &'static str,
        value: &Value,
    ) -> ConfigError {
        ConfigError::WrongType { field: self.path(word), expected, found: describe(value) }
    }

    pub(crate) fn missing(&self, word: &'static str) -> ConfigError {
        ConfigError::Missing { field: self.path(word), model_type: self.model_type }
    }

    /// Refuses words that nothing has read, if these words were typed by a person.
    pub(crate) fn finish(&self) -> Result<(), ConfigError> {
        let Some(typed) = self.typed else { return Ok(()) };
        let read = self.read.borrow();
        let unread = typed.iter().find(|(w, v)| !read.contains(w.as_str()) && !v.is_null());
        let Some((word, _)) = unread else { return Ok(()) };
        let known = if self.prefix.is_empty() { WORDS } else { NESTED_WORDS };
        if known.contains(&word.as_str()) {
            let word = self.path(word);
            return Err(ConfigError::NoEffect { word, model_type: self.model_type });
        }
        Err(ConfigError::UnknownWord { word: self.path(word), nearest: nearest(word, known) })
    }

    fn path(&self, word: &str) -> String {
        if self.prefix.is_empty() { word.to_owned() } else { format!("{}.{word}", self.prefix) }
    }
}

/// The object that a configuration must be. Errors: `NotAnObject`.
pub(crate) fn object(value: &Value) -> Result<&Map<String, Value>, ConfigError> {
    value.as_object().ok_or_else(|| ConfigError::NotAnObject {
        field: "the configuration".to_owned(),
        found: describe(value),
    })
}

/// A value as it may stand in a message: short, whatever the file holds.
pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Array(list) if list.len() > 4 => format!("a list of {} values", list.len()),
        Value::Object(_) => "an object".to_owned(),
        other => {
            let text = other.to_string();
            if text.chars().count() <= 60 {
                text
            } else {
                text.chars().take(57).chain("...".chars()).collect()
            }
        }
    }
}

/// The known word with the fewest single-letter edits, if it is close enough to be meant.
pub(crate) fn nearest(word: &str, known: &'static [&'static str]) -> Option<&'static str> {
    // A recipe's word is short; a long one is nobody's slip and not worth a quadratic search.
    if word.len() > 64 {
        return None;
    }
    let limit = (word.len() / 3).max(2);
    known
        .iter()
        .map(|candidate| (edits(word, candidate), *candidate))
        .filter(|(edits, _)| *edits <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance in bytes.
pub(crate) fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_the_one_meant() {
        assert_eq!(nearest("hiden_size", WORDS), Some("hidden_size"));
        assert_eq!(nearest("kv_lora_rnak", WORDS), Some("kv_lora_rank"));
        assert_eq!(nearest("learning_rate", WORDS), None);
    }

    #[test]
    fn words_are_sorted_and_unique() {
        for list in [WORDS, NESTED_WORDS] {
            assert!(list.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }

    #[test]
    fn edits_are_counted() {
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "abc"), 3);
    }
}
