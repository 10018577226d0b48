//! What the server knows of the model that answers, besides the engine that runs it.

use fathom_text::{ChatRenderer, Tokenizer};

/// A model as clients meet it.
pub struct Served {
    /// What it is called in `/v1/models`, such as `DeepSeek-R1-Distill-Qwen-1.5B`.
    pub name: String,
    /// Its tokens.
    pub tokenizer: Tokenizer,
    /// How conversations are laid out; none: the model only continues text.
    pub renderer: Option<ChatRenderer>,
    /// Whether it thinks before it answers.
    pub thinking: Thinking,
    /// Tokens that end every answer.
    pub stop_ids: Vec<u32>,
    /// The token that every document begins with.
    pub bos: Option<u32>,
    /// Ids from here on are padding of the vocabulary.
    pub vocab_limit: usize,
    /// Most tokens of prompt and answer together.
    pub context_tokens: usize,
    /// What is used where a request says nothing.
    pub defaults: Defaults,
    /// What a trace of experts means; none for a dense model.
    pub experts: Option<ExpertsShape>,
}

/// Whether a model thinks before it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thinking {
    /// It answers at once.
    Never,
    /// Its prompts open the thinking.
    Always,
    /// As the request says: `deepseek-chat` and `deepseek-reasoner` are two modes of it.
    Switch,
}

/// Settings of the sampler that the model's makers recommend, or the person who serves it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Defaults {
    /// 0 to 2.
    pub temperature: f32,
    /// Above 0, at most 1.
    pub top_p: f32,
    /// 0 is all.
    pub top_k: usize,
    /// 0 is all.
    pub min_p: f32,
    /// 1 does nothing.
    pub repetition_penalty: f32,
    /// Tokens of an answer; none: what the context has room for.
    pub max_tokens: Option<usize>,
}

/// How experts are counted in [`fathom_engine::service::Token::experts`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpertsShape {
    /// Layers of the model that have routed experts, by their place in it, in order.
    pub layers: Vec<usize>,
    /// Routed experts per layer.
    pub n_routed_experts: usize,
    /// Experts that a token visits.
    pub num_experts_per_tok: usize,
}
