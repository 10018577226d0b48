//! A loaded model that answers: prompt in, tokens out, with the time it took.

use super::scored::Scored;
use super::settings::Settings;
use crate::failure::Failure;
use crate::opened::{Holding, Opened};
use fathom_checkpoint::gguf::Gguf;
use fathom_engine::{DraftCounts, Drafting, Drawn, Finish, GenerateRequest, Sampling, Session};
use fathom_model::cache::{CacheForm, CacheSpec};
use fathom_model::{Model, Precision};
use fathom_text::chat::{Hints, Options, Prompt, TemplateFile};
use fathom_text::{ChatFormat, ChatRenderer, Message, Tokenizer, special};
use std::path::Path;
use std::time::{Duration, Instant};

/// How a question becomes a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// By a format of this program.
    Chat(ChatFormat),
    /// By the checkpoint's own template.
    Own(TemplateFile),
    /// Not at all: the text is continued.
    Plain,
}

impl Layout {
    /// The layout of a model: its own template; else the format that its name tells; else none.
    pub(crate) fn of(opened: &Opened, tokenizer: &Tokenizer) -> Result<Layout, Failure> {
        let model_type = Some(opened.files.config().model_type.model_type());
        let (file, format) = match opened.files.gguf() {
            Some(gguf) => {
                let name =
                    gguf.text("general.name")?.map_or_else(|| name_of(gguf.path()), String::from);
                let hints =
                    Hints { name: &name, model_type, tokenizer: Some(tokenizer), template: None };
                (template_in(gguf, tokenizer)?, ChatFormat::detect(hints))
            }
            // The vocabulary tells nothing here: base models trained by recipes have that of a chat.
            None => {
                let name = name_of(opened.path());
                let hints = Hints { name: &name, model_type, ..Hints::default() };
                (TemplateFile::open(opened.path())?, ChatFormat::detect(hints))
            }
        };
        let Some(file) = file else {
            return Ok(format.map_or(Layout::Plain, Layout::Chat));
        };
        // Those that this program wrote when it trained the model.
        let ours = [ChatFormat::V3, ChatFormat::R1, ChatFormat::R1Zero];
        let known = ours.into_iter().find(|format| format.jinja() == file.text);
        Ok(known.map_or(Layout::Own(file), Layout::Chat))
    }

    /// Whether a prompt can hold earlier turns and a system text.
    pub(crate) fn holds_turns(&self) -> bool {
        match self {
            Layout::Chat(format) => format.holds_turns(),
            Layout::Own(_) => true,
            Layout::Plain => false,
        }
    }

    /// A sentence for people where the layout is not an ordinary chat.
    pub(crate) fn note(&self) -> Option<&'static str> {
        match self {
            Layout::Chat(ChatFormat::R1Zero) => {
                Some("a base model: questions are put into the R1-Zero template, each stands alone")
            }
            Layout::Plain => Some("no chat template: the text is continued as it is"),
            Layout::Chat(_) | Layout::Own(_) => None,
        }
    }

    fn renderer(&self, tokenizer: &Tokenizer) -> Result<Option<ChatRenderer>, Failure> {
        Ok(match self {
            Layout::Chat(format) => Some(ChatRenderer::built_in(*format, tokenizer)?),
            Layout::Own(file) => Some(ChatRenderer::new(file.clone(), tokenizer)?),
            Layout::Plain => None,
        })
    }
}

/// The template inside a GGUF, with the tokens that templates name.
fn template_in(gguf: &Gguf, tokenizer: &Tokenizer) -> Result<Option<TemplateFile>, Failure> {
    let Some(text) = gguf.text("tokenizer.chat_template")? else { return Ok(None) };
    let named = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id));
    Ok(Some(TemplateFile {
        path: gguf.path().display().to_string(),
        text: text.to_owned(),
        bos_token: named(tokenizer.bos_id()),
        eos_token: named(tokenizer.eos_id()),
        pad_token: named(tokenizer.pad_id()),
        unk_token: None,
    }))
}

/// What a checkpoint is called: its directory, or the repository of a download.
fn name_of(dir: &Path) -> String {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let snapshots = dir.parent().filter(|parent| parent.ends_with("snapshots"));
    let named = snapshots.and_then(Path::parent).unwrap_or(&dir);
    named.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The model was done.
    Stop,
    /// It had no tokens left.
    Length,
    /// The person did not want to hear more.
    Interrupted,
}

impl Ended {
    /// The word for programs.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Ended::Stop => "stop",
            Ended::Length => "length",
            Ended::Interrupted => "interrupted",
        }
    }
}

/// An answer and what it cost.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    /// Tokens of the answer, without the one that ended it.
    pub(crate) ids: Vec<u32>,
    /// Their log-probabilities, if the settings ask for them.
    pub(crate) scored: Vec<Scored>,
    pub(crate) ended: Ended,
    pub(crate) n_prompt: usize,
    /// Tokens of the prompt that were known from the turn before.
    pub(crate) n_reused: usize,
    /// Time to the first token.
    pub(crate) prefill: Duration,
    /// Time of all others.
    pub(crate) decode: Duration,
    /// What guesses at the next tokens cost and brought.
    pub(crate) drafts: DraftCounts,
}

impl Turn {
    /// Tokens per second after the first; none if there was only one.
    pub(crate) fn tokens_per_s(&self) -> Option<f64> {
        let n = self.ids.len().checked_sub(1).filter(|n| *n > 0)?;
        Some(n as f64 / self.decode.as_secs_f64().max(1e-9))
    }
}

/// A model that can be talked with.
pub(crate) struct Speaker {
    pub(crate) voice: Voice,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) layout: Layout,
    /// Whether its prompts open the thinking.
    pub(crate) opens_thinking: bool,
    renderer: Option<ChatRenderer>,
}

/// The part of it that knows no text: the model and one conversation's cache.
pub(crate) struct Voice {
    pub(crate) model: Model,
    pub(crate) cache: CacheSpec,
    /// Who guesses at the next tokens.
    pub(crate) drafting: Drafting,
    session: Session,
    stop_ids: Vec<u32>,
    /// Ids from here on have no token.
    vocab_limit: usize,
}

impl Speaker {
    /// Loads a model, with its MTP module if `drafting` needs it. `stop_ids` come from its
    /// `generation_config.json`.
    pub(crate) fn open(
        opened: &Opened,
        tokenizer: Tokenizer,
        holding: &Holding,
        layout: Layout,
        precision: Precision,
        drafting: Drafting,
        stop_ids: Vec<u32>,
    ) -> Result<Speaker, Failure> {
        let with_module = matches!(drafting, Drafting::Mtp { .. });
        let mut model = opened.load(holding, with_module)?.model;
        if tokenizer.vocab_size() > model.config.vocab_size {
            return Err(Failure::Failed(format!(
                "`{}`: the tokenizer has {} tokens, the model knows {}",
                opened.label(),
                tokenizer.vocab_size(),
                model.config.vocab_size
            )));
        }
        let cache = model.pack_for_cache(precision, CacheForm::Latent);
        if with_module {
            model.lighten_mtp();
        }
        let mut stop_ids = stop_ids;
        stop_ids.extend(&model.config.eos_token_id);
        stop_ids.extend(tokenizer.eos_id());
        stop_ids.extend(tokenizer.token_id(special::EOS));
        let renderer = layout.renderer(&tokenizer)?;
        if let Some(renderer) = &renderer {
            stop_ids.extend(renderer.stop_ids(&tokenizer));
        }
        stop_ids.sort_unstable();
        stop_ids.dedup();
        let (session, vocab_limit) = (Session::new(cache), tokenizer.vocab_size());
        let voice = Voice { model, cache, drafting, session, stop_ids, vocab_limit };
        let mut speaker = Speaker { voice, tokenizer, layout, opens_thinking: false, renderer };
        // What a prompt does to one question it does to all; a template that refuses says so later.
        let probe = speaker.rendered(&[Message::user("?")]);
        speaker.opens_thinking = matches!(probe, Ok(Some(prompt)) if prompt.opened_thinking);
        Ok(speaker)
    }

    /// Ids of a prompt that asks for the next turn of a conversation.
    pub(crate) fn prompt(&self, messages: &[Message]) -> Result<Vec<u32>, Failure> {
        match self.rendered(messages)? {
            Some(prompt) => Ok(prompt.ids),
            None => Ok(self.plain_prompt(messages.last().map_or("", |last| &last.content))),
        }
    }

    fn rendered(&self, messages: &[Message]) -> Result<Option<Prompt>, Failure> {
        let Some(renderer) = &self.renderer else { return Ok(None) };
        let options = Options { add_generation_prompt: true, ..Options::default() };
        let conversation = messages.to_vec().into();
        Ok(Some(renderer.prompt(&self.tokenizer, &conversation, &options)?))
    }

    /// Ids of text that shall be continued. Control tokens in it count: who continues text by hand
    /// may write them.
    fn plain_prompt(&self, text: &str) -> Vec<u32> {
        let mut ids: Vec<u32> = self.bos().into_iter().collect();
        ids.extend(self.tokenizer.encode(text));
        ids
    }

    /// The token that every document begins with.
    pub(crate) fn bos(&self) -> Option<u32> {
        let tokenizer = &self.tokenizer;
        let named = tokenizer.bos_id().or_else(|| tokenizer.token_id(special::BOS));
        named.or(self.voice.model.config.bos_token_id)
    }
}

impl Voice {
    /// Answers; `on_token` hears every token of the answer and says whether to go on.
    pub(crate) fn answer(
        &mut self,
        prompt: &[u32],
        settings: &Settings,
        mut on_token: impl FnMut(u32) -> bool,
    ) -> Result<Turn, Failure> {
        if prompt.is_empty() {
            return Err(Failure::Usage("the prompt is empty".into()));
        }
        let sampling = self.sampling(prompt.len(), settings)?;
        let start = Instant::now();
        let mut prefill = None;
        let (mut ids, mut scored) = (Vec::new(), Vec::new());
        let stop_ids = &self.stop_ids;
        let (n_top_log_probs, drafting) = (settings.n_top_log_probs, self.drafting);
        let request = GenerateRequest { prompt, sampling: &sampling, n_top_log_probs, drafting };
        let hear = |drawn: &Drawn<'_>| {
            prefill.get_or_insert_with(|| start.elapsed());
            if stop_ids.contains(&drawn.token) {
                return true;
            }
            ids.push(drawn.token);
            scored.extend(Scored::of(drawn));
            on_token(drawn.token)
        };
        let generated = self.session.generate(&self.model, &request, hear)?;
        let prefill = prefill.unwrap_or_default();
        let ended = match generated.finish {
            Some(Finish::Stop) => Ended::Stop,
            Some(Finish::Length) => Ended::Length,
            None => Ended::Interrupted,
        };
        let decode = start.elapsed().saturating_sub(prefill);
        let (n_prompt, n_reused, drafts) = (prompt.len(), generated.n_reused, generated.drafts);
        Ok(Turn { ids, scored, ended, n_prompt, n_reused, prefill, decode, drafts })
    }

    /// Also ends answers at these ids.
    pub(crate) fn stop_at(&mut self, ids: impl IntoIterator<Item = u32>) {
        self.stop_ids.extend(ids);
    }

    fn sampling(&self, n_prompt: usize, settings: &Settings) -> Result<Sampling, Failure> {
        let n_positions = self.model.config.max_position_embeddings;
        if n_prompt >= n_positions {
            return Err(Failure::hinted(
                format!("the prompt has {n_prompt} tokens, the model reads at most {n_positions}"),
                "shorten it; in a chat, `/new` begins again",
            ));
        }
        let room = n_positions - n_prompt;
        Ok(Sampling {
            temperature: settings.temperature,
            top_k: settings.top_k,
            top_p: settings.top_p,
            min_p: settings.min_p,
            repetition_penalty: settings.repetition_penalty,
            frequency_penalty: settings.frequency_penalty,
            presence_penalty: settings.presence_penalty,
            logit_bias: settings.logit_bias.clone(),
            seed: settings.seed,
            max_new_tokens: settings.max_tokens.unwrap_or(room).min(room),
            stop_ids: self.stop_ids.clone(),
            vocab_limit: self.vocab_limit,
        })
    }
}

/// The tokenizer of a checkpoint directory.
pub(crate) fn open_tokenizer(dir: &Path) -> Result<Tokenizer, Failure> {
    let path = dir.join("tokenizer.json");
    if !path.is_file() {
        return Err(Failure::hinted(
            format!("`{}` has no `tokenizer.json`", dir.display()),
            "without it text cannot be turned into tokens; `fathom logits` takes ids",
        ));
    }
    Ok(Tokenizer::open(path)?)
}
