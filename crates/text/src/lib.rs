//! Text in, token ids out, and back: byte-level BPE, its training, chat formats, streaming.
//!
//! Source of the formats: Hugging Face `tokenizer.json` and the DeepSeek chat templates. Nothing
//! here knows tensors or weights. User text is encoded plain, so that what a person types can
//! never become a control token.
#![forbid(unsafe_code)]

mod added;
mod bpe;
mod byte_alphabet;
mod char_class;
pub mod chat;
mod error;
pub mod fim;
mod normalize;
mod piece_cache;
mod pretokenize;
pub mod reply;
pub mod special;
pub mod stop;
pub mod stream_decoder;
pub mod tokenizer;
mod tokenizer_config;
mod tokenizer_json;
pub mod train;
pub mod vocabulary;

pub use chat::{ChatFormat, ChatRenderer, Conversation, Message, Role, ToolCall};
pub use error::Error;
pub use stop::StopStrings;
pub use stream_decoder::StreamDecoder;
pub use tokenizer::Tokenizer;
pub use tokenizer_config::TokenizerConfig;
pub use train::{BpeSettings, PretokenizerStyle, train_bpe};
pub use vocabulary::Vocabulary;

/// Result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
