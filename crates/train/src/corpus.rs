//! Text to pre-train on: the generated corpus, or a person's own folder.

use crate::error::Error;
use crate::recipe::{Kind, Sources, Task};
use crate::stage::Work;
use fathom_data::corpus::{self, CorpusSettings};
use fathom_data::fim;
use fathom_data::pack::PackedSet;
use fathom_data::source_tree::{SourceOptions, SourceTree, read_sources};
use fathom_text::chat::R1_ZERO_PREAMBLE;
use fathom_text::{Tokenizer, special};

/// Generated documents encoded at a time.
const DOCUMENTS_AT_ONCE: u64 = 4096;
/// First index of the generated documents that only measure.
const FIRST_HELD_OUT: u64 = 1 << 40;

/// Where documents come from.
pub(crate) enum Corpus {
    /// Made by the program; endless.
    Generated { seed: u64, settings: Box<CorpusSettings> },
    /// Files of a folder.
    Files { seed: u64, tree: SourceTree },
}

impl Corpus {
    /// The corpus that `data` names: `task-corpus`, or a folder. `settings` shape the generated one;
    /// none takes those of the recipe's first pre-training stage.
    pub(crate) fn open(
        work: &mut Work,
        data: &str,
        settings: Option<&CorpusSettings>,
    ) -> Result<Corpus, Error> {
        let seed = work.recipe.seed;
        let sources = match (&work.recipe.task, data) {
            (Task::Sources(sources), "task-corpus") => Some(sources.clone()),
            (_, "task-corpus") => None,
            (_, folder) => Some(Sources { folder: folder.into(), ..Sources::default() }),
        };
        if let Some(sources) = sources {
            let extensions: Vec<&str> = sources.extensions.iter().map(String::as_str).collect();
            let options = SourceOptions {
                extensions: (!extensions.is_empty()).then(|| sources.extensions.clone()),
                max_file_bytes: sources.max_file_bytes,
                held_out_share: sources.held_out_share,
                seed,
                ..SourceOptions::with_extensions(&extensions)
            };
            let tree = read_sources(&work.source_folder(&sources.folder), &options)?;
            work.note(format!(
                "{} files read from `{}`; {}",
                tree.files.len(),
                sources.folder,
                tree.skipped
            ));
            return Ok(Corpus::Files { seed, tree });
        }
        let first = || {
            work.recipe.stages.iter().find_map(|stage| match &stage.kind {
                Kind::Pretrain(settings) => Some(settings.corpus.clone()),
                _ => None,
            })
        };
        let mut settings = settings.cloned().or_else(first).unwrap_or_default();
        if settings.preamble.is_empty() {
            settings.preamble = R1_ZERO_PREAMBLE.to_string();
        }
        Ok(Corpus::Generated { seed, settings: Box::new(settings) })
    }

    /// Up to `n` training documents as text, spread over the corpus, to count pairs of.
    pub(crate) fn text_sample(&self, n: usize) -> Vec<String> {
        match self {
            Corpus::Generated { seed, settings } => {
                (0..n as u64).map(|i| corpus::document(*seed, i, settings)).collect()
            }
            Corpus::Files { tree, .. } => {
                let files: Vec<&str> = tree.train().map(|file| file.text.as_str()).collect();
                let step = files.len().div_ceil(n.max(1)).max(1);
                files.iter().step_by(step).map(|text| text.to_string()).collect()
            }
        }
    }

    /// Training tokens: at least `n_tokens` of a generated corpus, all of a folder.
    pub(crate) fn train_tokens(
        &self,
        tokenizer: &Tokenizer,
        n_tokens: usize,
        fim_rate: f64,
    ) -> Result<PackedSet, Error> {
        let (bos, eos) = (tokenizer.special_id(special::BOS)?, tokenizer.special_id(special::EOS)?);
        let mut set = PackedSet::default();
        match self {
            Corpus::Generated { seed, settings } => {
                let mut next = 0;
                while set.tokens.len() <= n_tokens {
                    let documents: Vec<String> = (next..next + DOCUMENTS_AT_ONCE)
                        .map(|i| corpus::document(*seed, i, settings))
                        .collect();
                    next += DOCUMENTS_AT_ONCE;
                    push_all(&mut set, tokenizer.encode_batch(&documents), bos, eos);
                }
            }
            Corpus::Files { seed, tree } => {
                let documents: Vec<Vec<u32>> = tree
                    .train()
                    .enumerate()
                    .map(|(i, file)| {
                        encode_fim(tokenizer, &file.text, fim_rate, &[*seed, i as u64])
                    })
                    .collect::<Result<_, Error>>()?;
                push_all(&mut set, documents, bos, eos);
            }
        }
        Ok(set)
    }

    /// Held-out tokens, and the number of bytes of their text.
    pub(crate) fn held_out_tokens(
        &self,
        tokenizer: &Tokenizer,
        n_tokens: usize,
    ) -> Result<(PackedSet, usize), Error> {
        let (bos, eos) = (tokenizer.special_id(special::BOS)?, tokenizer.special_id(special::EOS)?);
        let mut set = PackedSet::default();
        let mut n_bytes = 0;
        let mut add = |text: &str| {
            n_bytes += text.len();
            push_all(&mut set, vec![tokenizer.encode(text)], bos, eos);
            set.tokens.len() < n_tokens
        };
        match self {
            Corpus::Generated { seed, settings } => {
                let mut next = FIRST_HELD_OUT;
                while add(&corpus::document(*seed, next, settings)) {
                    next += 1;
                }
            }
            Corpus::Files { tree, .. } => {
                let _ = tree.held_out().all(|file| add(&file.text));
            }
        }
        Ok((set, n_bytes))
    }
}

fn push_all(set: &mut PackedSet, documents: Vec<Vec<u32>>, bos: u32, eos: u32) {
    for document in documents.into_iter().filter(|document| !document.is_empty()) {
        let mut whole = Vec::with_capacity(document.len() + 2);
        whole.push(bos);
        whole.extend(document);
        set.push(&whole, eos);
    }
}

fn encode_fim(
    tokenizer: &Tokenizer,
    text: &str,
    rate: f64,
    key: &[u64],
) -> Result<Vec<u32>, Error> {
    let mut ids = Vec::new();
    for piece in fim::cut_for_fim(text, rate, key).pieces() {
        match piece {
            fim::Piece::Text(text) => ids.extend(tokenizer.encode_plain(text)),
            fim::Piece::Marker(marker) => ids.push(tokenizer.special_id(marker)?),
        }
    }
    Ok(ids)
}
