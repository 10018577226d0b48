//! The tokenizer of whatever holds one: a GGUF, a `tokenizer.json`, or a checkpoint directory.

use crate::failure::Failure;
use crate::talk::dialect::open_tokenizer;
use crate::talk::source::{Found, Missing, locate};
use fathom_checkpoint::gguf::Gguf;
use fathom_text::{Tokenizer, Vocabulary};
use std::path::Path;

/// The tokenizer of what was typed: a file, a directory, a run, or a downloaded repository.
pub(crate) fn find_tokenizer(typed: &str) -> Result<Tokenizer, Failure> {
    let path = Path::new(typed);
    if path.is_file() && path.extension().is_some_and(|extension| extension == "json") {
        return Ok(Tokenizer::open(path)?);
    }
    if path.join("tokenizer.json").is_file() {
        return Ok(Tokenizer::open(path)?);
    }
    match locate(Some(typed), Missing::Refuse)? {
        Found::Directory(source) => open_tokenizer(&source.dir),
        Found::Gguf { file, .. } => gguf_tokenizer(&open_gguf(&file)?),
    }
}

/// The tokenizer inside a GGUF.
pub(crate) fn gguf_tokenizer(gguf: &Gguf) -> Result<Tokenizer, Failure> {
    let refuse = |what: String| Failure::Failed(format!("`{}`: {what}", gguf.path().display()));
    let read = || -> Result<_, fathom_checkpoint::Error> {
        let id = |name: &str| gguf.count(&format!("tokenizer.ggml.{name}_token_id"));
        let pre = gguf.text("tokenizer.ggml.pre")?.unwrap_or("default").to_owned();
        let is_llama3 = pre.starts_with("llama");
        let types = gguf.integers("tokenizer.ggml.token_type")?.unwrap_or_default();
        let ids = [id("bos")?, id("eos")?, id("padding")?];
        let [bos_id, eos_id, pad_id] = ids.map(|id| id.map(|id| id.try_into().unwrap_or(u32::MAX)));
        let vocabulary = Vocabulary {
            tokens: gguf.texts("tokenizer.ggml.tokens")?.unwrap_or_default().to_vec(),
            token_types: types.into_iter().map(|kind| kind.try_into().unwrap_or(0)).collect(),
            merges: gguf.texts("tokenizer.ggml.merges")?.unwrap_or_default().to_vec(),
            pre,
            bos_id,
            eos_id,
            pad_id,
            add_bos: gguf.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(is_llama3),
        };
        Ok((vocabulary, gguf.text("tokenizer.ggml.model")?))
    };
    let (vocabulary, model) = read().map_err(|error| Failure::Failed(error.to_string()))?;
    match model {
        Some("gpt2") => {}
        None => return Err(refuse("there is no tokenizer in it".into())),
        Some(model) => {
            return Err(refuse(format!(
                "its tokenizer is of the kind `{model}`\nhint: only byte-level bpe, `gpt2`, can be used"
            )));
        }
    }
    Tokenizer::from_vocabulary(vocabulary).map_err(|error| refuse(error.to_string()))
}

fn open_gguf(path: &Path) -> Result<Gguf, Failure> {
    Gguf::open(path).map_err(|error| Failure::Failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/tokenizers");
    const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/tokenizer/golden.json");

    fn published(name: &str) -> Option<Tokenizer> {
        let path = format!("{SHARED}/ggml-vocab-deepseek-{name}.gguf");
        if !Path::new(&path).exists() {
            eprintln!("skipped: no {path}");
            return None;
        }
        Some(gguf_tokenizer(&Gguf::open(&path).unwrap()).unwrap())
    }

    fn golden() -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(GOLDEN).unwrap()).unwrap()
    }

    fn words(ids: &[u32]) -> String {
        ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
    }

    /// The 47 texts of llama.cpp (the last one is empty) and the ids that the reference gives
    /// them; and what llama.cpp gives, where that file is there too.
    fn check_vectors(name: &str) {
        let Some(tokenizer) = published(name) else { return };
        let texts =
            std::fs::read_to_string(format!("{SHARED}/ggml-vocab-deepseek-llm.gguf.inp")).unwrap();
        let texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
        assert_eq!(texts.len(), 47);
        let golden = golden();
        let lists = golden["vectors"][format!("deepseek-{name}")].as_array().unwrap();
        assert_eq!(lists.len(), 47);
        for (text, list) in texts.iter().zip(lists) {
            let ids = tokenizer.encode(text);
            assert_eq!(serde_json::json!(ids), *list, "{name}: {text:?}");
            assert_eq!(tokenizer.decode(&ids), *text, "{name}");
        }
        let path = format!("{SHARED}/ggml-vocab-deepseek-{name}.gguf.out");
        let Ok(lists) = std::fs::read_to_string(&path) else {
            eprintln!("skipped: no {path}");
            return;
        };
        let lists: Vec<&str> = lists.split('\n').collect();
        assert_eq!(texts.len(), lists.len());
        for (text, list) in texts.iter().zip(lists) {
            assert_eq!(words(&tokenizer.encode(text)), list.trim(), "{name}: {text:?}");
        }
    }

    #[test]
    fn the_vectors_of_llm_are_reproduced() {
        check_vectors("llm");
    }

    #[test]
    fn the_vectors_of_coder_are_reproduced() {
        check_vectors("coder");
    }

    #[test]
    fn vocabularies_of_gguf_files_give_the_ids_of_the_reference() {
        let golden = golden();
        for (name, begin) in [("llm", 100_000), ("coder", 32_013)] {
            let Some(tokenizer) = published(name) else { continue };
            let lists = golden["ids"][format!("deepseek-{name}")].as_array().unwrap();
            for (text, ids) in golden["texts"].as_array().unwrap().iter().zip(lists) {
                let text = text.as_str().unwrap();
                assert_eq!(serde_json::json!(tokenizer.encode(text)), *ids, "{name}: {text:?}");
            }
            assert_eq!((tokenizer.bos_id(), tokenizer.adds_bos()), (Some(begin), true));
        }
    }

    #[test]
    fn letters_whose_bytes_have_no_token_are_tokens_themselves() {
        for (name, ids) in [("llm", "37 100014 71 6245"), ("coder", "37 32009 71 6247")] {
            let Some(tokenizer) = published(name) else { continue };
            assert_eq!(words(&tokenizer.encode("Führer")), ids);
            assert_eq!(words(&tokenizer.encode_plain("Führer")), ids);
            let plain = tokenizer.encode_plain("<｜begin▁of▁sentence｜><|EOT|><｜fim▁hole｜>");
            assert!(plain.iter().all(|id| *id < 100_000 && (name == "llm" || *id < 32_000)));
        }
    }
}
