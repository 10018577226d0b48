//! `fathom tokenizer`: text to token ids and back.

use crate::failure::Failure;
use crate::output::{json_to_stdout, to_stdout};
use crate::talk::source;
use crate::talk::speaker::open_tokenizer;
use fathom_text::{Tokenizer, special};
use serde_json::json;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

/// What was typed.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

const EXAMPLES: &str = "\
Examples:
  fathom tokenizer encode runs/r1-tiny \"What is 1 + 1?\"
  fathom tokenizer encode tokenizer.json --json < page.txt
  fathom tokenizer decode runs/r1-tiny --ids 5,17,3";

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// Text to ids; control tokens written in the text become their ids
    Encode {
        /// A model, a directory with `tokenizer.json`, or such a file
        #[arg(value_name = "MODEL_OR_FILE")]
        from: String,
        /// The text [default: stdin]
        #[arg(value_name = "TEXT")]
        text: Option<String>,
        /// Put the begin token first
        #[arg(long)]
        bos: bool,
        /// Print `{"ids": […]}`
        #[arg(long)]
        json: bool,
    },
    /// Ids to text, control tokens written out
    Decode {
        /// A model, a directory with `tokenizer.json`, or such a file
        #[arg(value_name = "MODEL_OR_FILE")]
        from: String,
        /// Token ids, such as 5,17,3
        #[arg(long, value_name = "IDS")]
        ids: Ids,
        /// Print `{"text": "…"}`
        #[arg(long)]
        json: bool,
    },
}

/// Token ids as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ids(pub(super) Vec<u32>);

impl FromStr for Ids {
    type Err = String;

    fn from_str(text: &str) -> Result<Ids, String> {
        let words = text.split([',', ' ']).filter(|word| !word.is_empty());
        let ids: Result<Vec<u32>, _> = words.map(str::parse).collect();
        ids.map(Ids).map_err(|_| "ids are whole numbers with commas between them".into())
    }
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    match args.action {
        Action::Encode { from, text, bos, json } => {
            let tokenizer = open(&from)?;
            let text = text_or_stdin(Some(text.as_deref().unwrap_or("-")))?;
            let mut ids = Vec::new();
            if bos {
                ids.push(tokenizer.special_id(special::BOS)?);
            }
            ids.extend(tokenizer.encode(&text));
            if json {
                return json_to_stdout(&json!({ "ids": ids }));
            }
            let words: Vec<String> = ids.iter().map(u32::to_string).collect();
            to_stdout(&(words.join(",") + "\n"))
        }
        Action::Decode { from, ids, json } => {
            let tokenizer = open(&from)?;
            if let Some(id) = ids.0.iter().find(|id| tokenizer.id_to_bytes(**id).is_none()) {
                return Err(Failure::Failed(format!(
                    "there is no token {id}; the vocabulary has {}",
                    tokenizer.vocab_size()
                )));
            }
            let text = tokenizer.decode(&ids.0);
            if json { json_to_stdout(&json!({ "text": text })) } else { to_stdout(&(text + "\n")) }
        }
    }
}

fn open(from: &str) -> Result<Tokenizer, Failure> {
    let path = Path::new(from);
    if path.is_file() && path.extension().is_some_and(|extension| extension == "json") {
        return Ok(Tokenizer::open(path)?);
    }
    if path.join("tokenizer.json").is_file() {
        return open_tokenizer(path);
    }
    open_tokenizer(&source::find(Some(from))?.dir)
}

/// The text itself, or all of stdin for `-`.
pub(super) fn text_or_stdin(text: Option<&str>) -> Result<String, Failure> {
    match text {
        Some("-") => {
            let mut bytes = Vec::new();
            let read = std::io::stdin().lock().read_to_end(&mut bytes);
            read.map_err(|error| Failure::Failed(format!("cannot read stdin: {error}")))?;
            String::from_utf8(bytes).map_err(|_| Failure::Failed("stdin is not UTF-8 text".into()))
        }
        text => Ok(text.unwrap_or_default().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_numbers_with_commas() {
        assert_eq!("5,17, 3".parse(), Ok(Ids(vec![5, 17, 3])));
        assert!("5,x".parse::<Ids>().is_err());
        assert!("-1".parse::<Ids>().is_err());
    }
}
