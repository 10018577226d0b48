//! `fathom tokenizer`: text to token ids and back.

use crate::failure::Failure;
use crate::output::{json_to_stdout, to_stdout};
use crate::vocabulary::find_tokenizer;
use fathom_text::{Tokenizer, special};
use serde_json::json;
use std::io::Read;
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
  fathom tokenizer decode runs/r1-tiny --ids 5,17,3
  fathom tokenizer compare model.gguf deepseek-ai/DeepSeek-V3 < page.txt";

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// Text to ids; control tokens written in the text become their ids
    Encode {
        /// A model, a directory with `tokenizer.json`, such a file, or a GGUF
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
        /// A model, a directory with `tokenizer.json`, such a file, or a GGUF
        #[arg(value_name = "MODEL_OR_FILE")]
        from: String,
        /// Token ids, such as 5,17,3
        #[arg(long, value_name = "IDS")]
        ids: Ids,
        /// Print `{"text": "…"}`
        #[arg(long)]
        json: bool,
    },
    /// Whether two tokenizers give the same ids; ends with code 1 if not
    Compare {
        /// A model, a directory with `tokenizer.json`, such a file, or a GGUF
        #[arg(value_name = "A")]
        first: String,
        /// The other one
        #[arg(value_name = "B")]
        second: String,
        /// The text [default: stdin]
        #[arg(value_name = "TEXT")]
        text: Option<String>,
        /// Print `{"same": …, "n_ids": […], "first_difference": …}`
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
            let tokenizer = find_tokenizer(&from)?;
            let text = text_or_stdin(Some(text.as_deref().unwrap_or("-")))?;
            let mut ids = Vec::new();
            if bos {
                ids.push(match tokenizer.bos_id() {
                    Some(id) => id,
                    None => tokenizer.special_id(special::BOS)?,
                });
            }
            ids.extend(tokenizer.encode(&text));
            if json {
                return json_to_stdout(&json!({ "ids": ids }));
            }
            let words: Vec<String> = ids.iter().map(u32::to_string).collect();
            to_stdout(&(words.join(",") + "\n"))
        }
        Action::Decode { from, ids, json } => {
            let tokenizer = find_tokenizer(&from)?;
            if let Some(id) = ids.0.iter().find(|id| tokenizer.id_to_bytes(**id).is_none()) {
                return Err(Failure::Failed(format!(
                    "there is no token {id}; the vocabulary has {}",
                    tokenizer.vocab_size()
                )));
            }
            let text = tokenizer.decode(&ids.0);
            if json { json_to_stdout(&json!({ "text": text })) } else { to_stdout(&(text + "\n")) }
        }
        Action::Compare { first, second, text, json } => {
            compare([&first, &second], text.as_deref(), json)
        }
    }
}

/// Where two lists of ids part.
#[derive(Debug, PartialEq, Eq)]
struct Difference {
    /// Ids before it are equal.
    index: usize,
    /// Bytes of text before it.
    offset: usize,
    ids: [Option<u32>; 2],
}

fn difference(first: &Tokenizer, ids: [&[u32]; 2]) -> Option<Difference> {
    let [a, b] = ids;
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let offset = a[..same].iter().map(|id| first.id_to_bytes(*id).map_or(0, <[u8]>::len)).sum();
    let ids = [a.get(same).copied(), b.get(same).copied()];
    (ids != [None, None]).then_some(Difference { index: same, offset, ids })
}

fn compare(typed: [&str; 2], text: Option<&str>, json: bool) -> Result<(), Failure> {
    let [first, second] = [find_tokenizer(typed[0])?, find_tokenizer(typed[1])?];
    let text = text_or_stdin(Some(text.unwrap_or("-")))?;
    let [a, b] = [&first, &second].map(|tokenizer| tokenizer.encode(&text));
    let found = difference(&first, [&a, &b]);
    if json {
        let difference = found
            .as_ref()
            .map(|found| json!({"index": found.index, "byte": found.offset, "ids": found.ids}));
        json_to_stdout(&json!({
            "same": found.is_none(),
            "n_ids": [a.len(), b.len()],
            "first_difference": difference,
        }))?;
    }
    let Some(found) = found else {
        return if json { Ok(()) } else { to_stdout(&format!("the same {} ids\n", a.len())) };
    };
    let side = |tokenizer: &Tokenizer, id: Option<u32>| match id {
        Some(id) => format!("{id} {:?}", tokenizer.decode(&[id])),
        None => "the end".into(),
    };
    Err(Failure::Failed(format!(
        "`{}` and `{}` give different ids, {} and {} of them\nfrom id number {} on, byte {} of \
         the text: {} and {}",
        typed[0],
        typed[1],
        a.len(),
        b.len(),
        found.index,
        found.offset,
        side(&first, found.ids[0]),
        side(&second, found.ids[1]),
    )))
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
