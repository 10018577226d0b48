//! `fathom run`: talks with a model, answers once, or continues text and code.

use super::Machine;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::opened::Opened;
use crate::output::{json_to_stdout, program, to_stderr};
use crate::talk::chat::{Chat, cost, stream};
use crate::talk::computing::Computing;
use crate::talk::dialect::{Layout, Template};
use crate::talk::drafting;
use crate::talk::hole::{Hole, MAX_MIDDLE_TOKENS, Place};
use crate::talk::screen::{Screen, Think};
use crate::talk::settings::{self, Settings};
use crate::talk::source::Missing;
use crate::talk::speaker::{Ended, Speaker};
use crate::terminal::Style;
use fathom_text::{Message, Tokenizer};
use serde_json::json;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What was typed.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A directory with `config.json`, a `.gguf` file, a Hugging Face repository (fetched if it is not here), or a run directory [default: the newest run under `runs/`]
    #[arg(value_name = "MODEL")]
    model: Option<String>,

    /// A question to answer once; without one, stdin is read, or a chat begins
    #[arg(value_name = "PROMPT", allow_negative_numbers = true)]
    prompt: Option<String>,

    #[command(flatten)]
    settings: settings::Typed,

    /// What the model is told first
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,

    /// How reasoning is shown [default: on]
    #[arg(long, value_name = "HOW")]
    think: Option<Think>,

    /// Use this chat template instead of the model's own
    #[arg(long, value_name = "NAME", conflicts_with = "raw")]
    template: Option<Template>,

    /// Continue the text as it is, without a chat template
    #[arg(long, conflicts_with = "system")]
    raw: bool,

    /// Write what stands between two pieces of code
    #[arg(long, num_args = 2, allow_hyphen_values = true, value_names = ["PREFIX", "SUFFIX"], conflicts_with_all = NOT_WITH_FIM)]
    fim: Option<Vec<String>>,

    /// Write a line of a source file anew (with `--at`), from what stands around it
    #[arg(long, value_name = "FILE", requires = "at", conflicts_with = "fim", conflicts_with_all = NOT_WITH_FIM)]
    fim_file: Option<PathBuf>,

    /// The line, from 1, or a range of lines such as 10-14
    #[arg(long, value_name = "LINE", requires = "fim_file")]
    at: Option<Place>,

    #[command(flatten)]
    computing: Computing,

    /// Print one JSON object: text, reasoning, ids, finish_reason, usage, timing
    #[arg(long)]
    json: bool,

    /// Put log-probabilities of the answer's tokens into the JSON, with the N likeliest at each place
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "0", requires = "json", value_parser = clap::value_parser!(u8).range(0..=20))]
    logprobs: Option<u8>,

    #[command(flatten)]
    machine: Machine,
}

/// What has no effect on code between two pieces, and is refused beside it.
const NOT_WITH_FIM: [&str; 5] = ["prompt", "raw", "system", "think", "template"];

const EXAMPLES: &str = "\
Examples:
  fathom run                                      chat with the newest run under `runs/`
  fathom run runs/r1-tiny                         chat with its main model; /help lists commands
  fathom run runs/r1-tiny \"What is 348 + 275?\"    answer once
  fathom run runs/r1-tiny/checkpoints/base        any stage of a run
  fathom run deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B --quant q8_0
  fathom run deepseek-v2-lite-q4_k.gguf --memory 6GiB
  cat question.txt | fathom run DIR > answer.txt  thinking stands between <think> and </think>
  fathom run DIR --raw \"Once upon a time\" --max-tokens 50
  fathom run runs/code-small --fim 'fn add(a: i32, b: i32) -> i32 {' '}'
  fathom run runs/code-small --fim-file src/main.rs --at 12

The answer goes to stdout, everything else to stderr. Ctrl-C stops an answer.";

/// What shall happen.
#[derive(Debug)]
enum Plan {
    /// A conversation at the terminal.
    Chat,
    /// One answer.
    Once(String),
    /// Code between two pieces.
    Fill(Hole),
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    args.machine.apply();
    let start = Instant::now();
    let (typed, prompt) = model_and_prompt(args.model.clone(), args.prompt.clone());
    let opened = Opened::find(typed.as_deref(), Missing::Fetch)?;
    let tokenizer = opened.tokenizer()?;
    let layout = layout(&args, &opened, &tokenizer)?;
    let opening = start.elapsed();
    refuse_without_effect(&args, &layout)?;
    let plan = plan(&args, prompt)?;
    let (mut settings, stop_ids) = args.settings.over_defaults_of(opened.path())?;
    settings.n_top_log_probs = args.logprobs.map(usize::from);
    let how = args.computing.for_model(&opened)?;
    let start = Instant::now();
    let mut speaker = Speaker::open(&opened, tokenizer, &how, layout, stop_ids)?;
    let loaded_s = (opening + start.elapsed()).as_secs_f64();
    let asked = match plan {
        Plan::Chat => return chat(&args, opened.label(), speaker, settings),
        Plan::Once(prompt) => {
            note(speaker.dialect.layout.note());
            let mut messages: Vec<Message> = args.system.iter().map(Message::system).collect();
            messages.push(Message::user(prompt));
            speaker.dialect.prompt(&messages)?
        }
        Plan::Fill(hole) => {
            settings.max_tokens.get_or_insert(MAX_MIDDLE_TOKENS);
            hole.prompt(&mut speaker, &settings)?
        }
    };
    answer_once(&args, speaker, &asked, &settings, loaded_s)
}

/// A sole argument that is no path and has spaces in it is a question to the newest run.
fn model_and_prompt(
    model: Option<String>,
    prompt: Option<String>,
) -> (Option<String>, Option<String>) {
    match (model, prompt) {
        (Some(only), None) if only.contains(char::is_whitespace) && !Path::new(&only).exists() => {
            (None, Some(only))
        }
        typed => typed,
    }
}

fn layout(args: &Args, opened: &Opened, tokenizer: &Tokenizer) -> Result<Layout, Failure> {
    if args.raw || args.fim.is_some() || args.fim_file.is_some() {
        return Ok(Layout::Plain);
    }
    match args.template {
        Some(template) => Ok(Layout::Chat(template.into())),
        None => Layout::of(opened, tokenizer),
    }
}

fn refuse_without_effect(args: &Args, layout: &Layout) -> Result<(), Failure> {
    let refuse = |flag: &str| {
        Err(Failure::Usage(format!(
            "`{flag}` has no effect: this model's template has no place for it"
        )))
    };
    if args.system.is_some() && !layout.holds_turns() {
        return refuse("--system");
    }
    if args.think.is_some() && *layout == Layout::Plain {
        return refuse("--think");
    }
    if args.think.is_some() && args.json {
        return Err(Failure::Usage(
            "`--think` has no effect with `--json`, which always holds both".into(),
        ));
    }
    Ok(())
}

fn plan(args: &Args, prompt: Option<String>) -> Result<Plan, Failure> {
    if let Some([prefix, suffix]) = args.fim.as_deref() {
        return Ok(Plan::Fill(Hole::between(prefix, suffix)));
    }
    if let (Some(file), Some(place)) = (&args.fim_file, args.at) {
        return Ok(Plan::Fill(Hole::in_file(file, place)?));
    }
    let stdin = std::io::stdin();
    match prompt {
        Some(prompt) => Ok(Plan::Once(prompt)),
        None if !stdin.is_terminal() => {
            let mut bytes = Vec::new();
            let read = stdin.lock().read_to_end(&mut bytes);
            read.map_err(|error| Failure::Failed(format!("cannot read stdin: {error}")))?;
            let text = String::from_utf8(bytes)
                .map_err(|_| Failure::Failed("stdin is not UTF-8 text".into()))?;
            match text.trim() {
                "" => Err(Failure::Usage(no_prompt("stdin is empty"))),
                prompt => Ok(Plan::Once(prompt.to_owned())),
            }
        }
        None if args.json || !std::io::stdout().is_terminal() => {
            Err(Failure::Usage(no_prompt("there is nothing to answer")))
        }
        None => Ok(Plan::Chat),
    }
}

fn no_prompt(what: &str) -> String {
    format!("{what}\nhint: give a question, as in `{} run MODEL \"What is 1 + 1?\"`", program())
}

fn chat(args: &Args, label: &str, speaker: Speaker, settings: Settings) -> Result<(), Failure> {
    let style = Style::of_stdout();
    let millions = speaker.voice.model.n_parameters() as f64 / 1e6;
    let heading = format!("{label} · {millions:.1} M parameters · /help");
    to_stderr(&format!("{}\n", style.dim(&heading)));
    note(speaker.dialect.layout.note());
    let mut chat = Chat::new(speaker, settings, style);
    chat.think = args.think.unwrap_or_default();
    chat.system = args.system.clone().unwrap_or_default();
    chat.talk()
}

fn answer_once(
    args: &Args,
    mut speaker: Speaker,
    prompt: &[u32],
    settings: &Settings,
    loaded_s: f64,
) -> Result<(), Failure> {
    let interrupt = Interrupt::listen();
    let think = args.think.unwrap_or_default();
    let terminal = std::io::stdout().is_terminal();
    let turn = if args.json {
        let mut screen = Screen::new(std::io::sink(), Style::PLAIN, false, Think::On);
        let drafting = drafting::word(speaker.voice.drafting);
        let (turn, reply) = stream(&mut speaker, prompt, settings, &mut screen, &interrupt)?;
        let mut value = json!({
            "text": reply.answer,
            "reasoning": reply.reasoning,
            "ids": turn.ids,
            "finish_reason": turn.ended.word(),
            "usage": {
                "prompt_tokens": turn.n_prompt,
                "completion_tokens": turn.ids.len(),
                "reasoning_tokens": reply.n_reasoning,
                "total_tokens": turn.n_prompt + turn.ids.len(),
            },
            "timing": {
                "load_s": loaded_s,
                "prefill_s": turn.prefill.as_secs_f64(),
                "decode_s": turn.decode.as_secs_f64(),
                "tokens_per_s": turn.tokens_per_s(),
                "draft": drafting,
                "passes": turn.drafts.n_passes,
                "drafted_tokens": turn.drafts.n_drafted,
                "accepted_tokens": turn.drafts.n_accepted,
            },
        });
        if settings.n_top_log_probs.is_some() {
            let scored = turn.scored.iter().map(|token| token.json(&speaker.dialect.tokenizer));
            value["logprobs"] = scored.collect();
        }
        json_to_stdout(&value)?;
        turn
    } else {
        let mut screen = Screen::new(std::io::stdout(), Style::of_stdout(), terminal, think);
        stream(&mut speaker, prompt, settings, &mut screen, &interrupt)?.0
    };
    if terminal && !args.json {
        note(Some(&cost(&turn)));
    }
    match turn.ended {
        Ended::Interrupted => Err(Failure::Interrupted("stopped".into())),
        _ => Ok(()),
    }
}

/// A dimmed line, if a person is watching.
fn note(text: Option<&str>) {
    if let Some(text) = text.filter(|_| std::io::stderr().is_terminal()) {
        to_stderr(&format!("{}\n", Style::of_stderr().dim(text)));
    }
}
