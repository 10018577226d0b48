//! Writes the seeds of every target into `corpus/`, and its dictionary beside it.
#![allow(dead_code)] // the claims themselves

#[path = "../../shared/allocation.rs"]
mod allocation;
#[path = "../../../crates/checkpoint/tests/it/claims.rs"]
mod checkpoint;
#[path = "../../../crates/data/tests/it/claims.rs"]
mod data;
#[path = "../../../crates/model/tests/it/claims.rs"]
mod model;
#[path = "../../../crates/text/tests/it/claims.rs"]
mod text;

use std::io::Result;
use std::path::Path;

fn main() -> Result<()> {
    write("safetensors", &checkpoint::safetensors_seeds())?;
    write("safetensors_index", &checkpoint::safetensors_index_seeds())?;
    write("gguf", &model::gguf_seeds())?;
    write("config_json", &model::config_json_seeds())?;
    write("golden_json", &model::golden_json_seeds())?;
    write("tokenizer_json", &text::tokenizer_json_seeds())?;
    write("tokenizer_config", &text::tokenizer_config_seeds())?;
    write("gguf_vocabulary", &text::gguf_vocabulary_seeds())?;
    write("chat_template", &text::chat_template_seeds())?;
    write("chat_reply", &text::chat_reply_seeds())?;
    write("jsonl", &data::jsonl_seeds())?;
    write("gguf", &checkpoint::gguf_seeds())?;
    dictionary("safetensors", checkpoint::JSON_WORDS)?;
    dictionary("safetensors_index", checkpoint::JSON_WORDS)?;
    dictionary("gguf", checkpoint::GGUF_WORDS)?;
    dictionary("config_json", model::CONFIG_WORDS)?;
    dictionary("tokenizer_json", text::TOKENIZER_WORDS)?;
    dictionary("gguf_vocabulary", text::VOCABULARY_WORDS)?;
    dictionary("chat_template", text::TEMPLATE_WORDS)?;
    Ok(())
}

/// One file for each seed, named by its content so that a second run writes the same files.
fn write(target: &str, seeds: &[Vec<u8>]) -> Result<()> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    std::fs::create_dir_all(&dir)?;
    for seed in seeds {
        let hash = seed.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
        });
        std::fs::write(dir.join(format!("seed-{hash:016x}")), seed)?;
    }
    Ok(())
}

/// libFuzzer's form: one quoted word a line, bytes that are not plain as `\xHH`.
fn dictionary(target: &str, words: &[&[u8]]) -> Result<()> {
    let escaped = |byte: &u8| match byte {
        b'"' | b'\\' => format!("\\{}", char::from(*byte)),
        b' '..=b'~' => char::from(*byte).to_string(),
        _ => format!("\\x{byte:02X}"),
    };
    let line = |word: &&[u8]| format!("\"{}\"\n", word.iter().map(escaped).collect::<String>());
    let text: String = words.iter().map(line).collect();
    std::fs::write(
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("corpus/{target}.dict")),
        text,
    )
}
