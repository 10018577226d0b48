//! Text in, token ids out, and back: byte-level BPE, its training, chat formats, streaming.
//!
//! Source of the formats: Hugging Face `tokenizer.json` and the DeepSeek chat templates. Nothing
//! here knows tensors or weights. User text is encoded plain, so that what a person types can
//! never become a control token.
#![forbid(unsafe_code)]

mod byte_alphabet;
pub mod chat;
mod error;
mod pretokenize;
pub mod special;
pub mod stop;
pub mod stream_decoder;
pub mod tokenizer;
pub mod train;

pub use chat::{ChatFormat, Message, Role};
pub use error::Error;
pub use stop::StopStrings;
pub use stream_decoder::StreamDecoder;
pub use tokenizer::Tokenizer;
pub use train::{BpeSettings, PretokenizerStyle, train_bpe};

/// Result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
