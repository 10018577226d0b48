//! Trains the tokenizer of a run.

use super::{Work, write_text};
use crate::corpus::Corpus;
use crate::error::Error;
use crate::recipe::{Task, Tokenizer as Settings};
use fathom_checkpoint::atomic;
use fathom_text::{BpeSettings, ChatFormat, PretokenizerStyle, chat, special, train_bpe};
use std::path::Path;

/// Pairs seen less often than this are not merged.
const MIN_FREQUENCY: u64 = 2;

pub(super) fn run(work: &mut Work, stage: &str, settings: &Settings) -> Result<(), Error> {
    let corpus = Corpus::open(work, "task-corpus", None)?;
    let documents = corpus.text_sample(settings.corpus_documents);
    let mut special_tokens: Vec<String> =
        special::CHAT.iter().map(|token| token.to_string()).collect();
    let pretokenizer = match work.recipe.task {
        Task::Sources(_) => {
            special_tokens.extend(special::FIM.iter().map(|token| token.to_string()));
            PretokenizerStyle::Code
        }
        _ => PretokenizerStyle::DigitWords,
    };
    let settings = BpeSettings {
        vocab_size: settings.vocab_size,
        special_tokens,
        pretokenizer,
        min_frequency: MIN_FREQUENCY,
    };
    let n_bytes: usize = documents.iter().map(String::len).sum();
    let tokenizer = train_bpe(documents.iter().cloned(), &settings)?;
    let n_tokens: usize = tokenizer.encode_batch(&documents).iter().map(Vec::len).sum();
    work.note(format!(
        "{} tokens, {:.2} bytes per token over {} documents",
        tokenizer.vocab_size(),
        n_bytes as f64 / n_tokens.max(1) as f64,
        documents.len()
    ));
    atomic::write_dir_atomic(work.dir.checkpoint(stage), |dir: &Path| -> Result<(), Error> {
        tokenizer.save(dir.join("tokenizer.json"))?;
        let text = chat::tokenizer_config_json(ChatFormat::R1, 4096);
        write_text(&dir.join("tokenizer_config.json"), &text)
    })
}
