//! The conversation at a terminal.

use super::dialect::{Dialect, Layout};
use super::reply::Reply;
use super::said::{HELP, Lines, Said, understand};
use super::screen::{Screen, Think};
use super::settings::Settings;
use super::speaker::{Ended, Speaker, Turn};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::to_stdout;
use crate::terminal::{Style, harmless};
use fathom_text::special::END_THINK;
use fathom_text::{Message, Role};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

/// A conversation and how it is held.
pub(crate) struct Chat {
    pub(crate) speaker: Speaker,
    pub(crate) settings: Settings,
    pub(crate) think: Think,
    /// What the model is told first; empty if nothing.
    pub(crate) system: String,
    pub(crate) style: Style,
    pub(crate) interrupt: Interrupt,
    history: Vec<Message>,
    /// The last answer, its reasoning, and how often it was tried.
    last: Option<(Turn, String)>,
    n_retries: u64,
}

/// Whether to wait for another line.
#[derive(PartialEq, Eq)]
enum Next {
    Line,
    End,
}

impl Chat {
    pub(crate) fn new(speaker: Speaker, settings: Settings, style: Style) -> Chat {
        Chat {
            speaker,
            settings,
            think: Think::default(),
            system: String::new(),
            style,
            interrupt: Interrupt::listen(),
            history: Vec::new(),
            last: None,
            n_retries: 0,
        }
    }

    /// Talks until the person has had enough.
    pub(crate) fn talk(mut self) -> Result<(), Failure> {
        let no_lines =
            |error| Failure::Failed(format!("cannot read lines from this terminal: {error}"));
        let mut editor = DefaultEditor::new().map_err(no_lines)?;
        let mut lines = Lines::default();
        loop {
            let prompt = if lines.is_open() { "... " } else { ">>> " };
            match editor.readline(prompt) {
                Ok(line) => {
                    let Some(whole) = lines.push(&line) else { continue };
                    let _ = editor.add_history_entry(&whole); // only a convenience
                    if self.hear(&whole)? == Next::End {
                        return Ok(());
                    }
                }
                Err(ReadlineError::Interrupted) if lines.is_open() => lines.clear(),
                Err(ReadlineError::Interrupted) => self.tell("Ctrl-D or /quit ends the chat")?,
                Err(ReadlineError::Eof) => return Ok(()),
                Err(error) => return Err(no_lines(error)),
            }
        }
    }

    fn hear(&mut self, line: &str) -> Result<Next, Failure> {
        let said = match understand(line) {
            Ok(said) => said,
            Err(error) => {
                self.tell(&error)?;
                return Ok(Next::Line);
            }
        };
        match said {
            Said::Nothing => {}
            Said::Quit => return Ok(Next::End),
            Said::Help => to_stdout(HELP)?,
            Said::Stats => self.stats()?,
            Said::New => {
                self.history.clear();
                self.last = None;
                self.tell("a new conversation")?;
            }
            Said::Question(question) => {
                self.n_retries = 0;
                self.ask(question)?;
            }
            Said::Retry => self.retry()?,
            Said::Think(None) => self.show_reasoning()?,
            Said::System(text) => self.set_system(text)?,
            setting => self.set(setting)?,
        }
        Ok(Next::Line)
    }

    /// Changes or shows a setting.
    fn set(&mut self, setting: Said) -> Result<(), Failure> {
        let settings = &mut self.settings;
        let shown = match setting {
            Said::Think(value) => {
                self.think = value.unwrap_or(self.think);
                format!("think {:?}", self.think).to_lowercase()
            }
            Said::Temperature(value) => {
                settings.temperature = value.unwrap_or(settings.temperature);
                format!("temperature {}", settings.temperature)
            }
            Said::TopP(value) => {
                settings.top_p = value.unwrap_or(settings.top_p);
                format!("top-p {}", settings.top_p)
            }
            Said::TopK(value) => {
                settings.top_k = value.unwrap_or(settings.top_k);
                format!("top-k {}", settings.top_k)
            }
            Said::MinP(value) => {
                settings.min_p = value.unwrap_or(settings.min_p);
                format!("min-p {}", settings.min_p)
            }
            Said::Penalty(which, value) => {
                let penalty = settings.penalty(which);
                *penalty = value.unwrap_or(*penalty);
                format!("{} {penalty}", which.word())
            }
            Said::Stop(text) => {
                if let Some(text) = text {
                    settings.stop =
                        Some(text).filter(|text| !text.is_empty()).into_iter().collect();
                }
                match settings.stop.as_slice() {
                    [] => "no text to stop at".into(),
                    stops => format!("stops at {stops:?}"),
                }
            }
            Said::Seed(value) => {
                settings.seed = value.unwrap_or(settings.seed);
                format!("seed {}", settings.seed)
            }
            Said::MaxTokens(value) => {
                settings.max_tokens = value.or(settings.max_tokens);
                let limit = settings.max_tokens.map_or("no limit".into(), |n| n.to_string());
                format!("max-tokens {limit}")
            }
            other => unreachable!("`hear` handles {other:?}"),
        };
        self.tell(&shown)
    }

    fn set_system(&mut self, text: Option<String>) -> Result<(), Failure> {
        match text {
            None if self.system.is_empty() => self.tell("no system text"),
            None => self.tell(&format!("system: {}", self.system)),
            Some(_) if !self.speaker.dialect.layout.holds_turns() => {
                self.tell("this model's template has no place for a system text")
            }
            Some(text) => {
                self.system = text;
                self.history.clear();
                self.tell("a new conversation with this system text")
            }
        }
    }

    fn retry(&mut self) -> Result<(), Failure> {
        let asked = self.history.iter().rposition(|message| message.role == Role::User);
        let Some(at) = asked else { return self.tell("nothing was asked yet") };
        let question = self.history[at].content.clone();
        self.history.truncate(at);
        self.n_retries += 1;
        self.ask(question)
    }

    /// Asks, shows the answer, and remembers both. A prompt that cannot work is told, not fatal.
    fn ask(&mut self, question: String) -> Result<(), Failure> {
        if !self.speaker.dialect.layout.holds_turns() {
            self.history.clear();
        }
        let mut messages = Vec::new();
        if !self.system.is_empty() {
            messages.push(Message::system(self.system.as_str()));
        }
        messages.extend(self.history.iter().cloned());
        messages.push(Message::user(question.as_str()));
        let answered = match self.speaker.dialect.prompt(&messages) {
            Ok(prompt) => self.answer(&prompt),
            Err(failure) => Err(failure),
        };
        match answered {
            Ok(content) => {
                self.history.push(Message::user(question));
                self.history.push(Message::assistant(content));
                Ok(())
            }
            Err(Failure::Failed(text) | Failure::Usage(text)) => {
                self.tell(&format!("error: {text}"))
            }
            Err(other) => Err(other),
        }
    }

    /// Streams an answer to the screen; returns it as the conversation remembers it.
    fn answer(&mut self, prompt: &[u32]) -> Result<String, Failure> {
        let settings = self.drawn_with();
        let mut screen = Screen::new(std::io::stdout(), self.style, true, self.think);
        let (turn, reply) =
            stream(&mut self.speaker, prompt, &settings, &mut screen, &self.interrupt)?;
        // Beyond a stop text, tokens are not part of what was said.
        let cut = reply.is_stopped().then_some(reply.answer);
        let reasoning = reply.reasoning;
        self.interrupt.clear();
        self.tell(&cost(&turn))?;
        let text = self.speaker.dialect.tokenizer.decode(&turn.ids);
        // Thinking that was never closed is no answer, and templates could not tell it from one.
        let unfinished = self.speaker.dialect.opens_thinking && !text.contains(END_THINK);
        self.last = Some((turn, reasoning));
        Ok(if unfinished { String::new() } else { cut.unwrap_or(text) })
    }

    /// The settings of the next answer: every retry has a seed of its own.
    fn drawn_with(&self) -> Settings {
        let seed = self.settings.seed.wrapping_add(self.n_retries);
        Settings { seed, ..self.settings.clone() }
    }

    fn show_reasoning(&self) -> Result<(), Failure> {
        match &self.last {
            Some((_, reasoning)) if !reasoning.is_empty() => self.tell(&harmless(reasoning)),
            Some(_) => self.tell("the last answer came without reasoning"),
            None => self.tell("nothing was asked yet"),
        }
    }

    fn stats(&self) -> Result<(), Failure> {
        let Some((turn, _)) = &self.last else { return self.tell("nothing was asked yet") };
        let n_cached = turn.n_prompt + turn.ids.len();
        let per_block = self.speaker.voice.cache.block_bytes() as f64;
        let blocks = n_cached.div_ceil(fathom_kernels::attention::BLOCK_TOKENS) as f64;
        let rate = turn.tokens_per_s().map_or("–".into(), |rate| format!("{rate:.0}"));
        self.tell(&format!(
            "prompt     {} tokens, {} of them known before\n\
             first token after {:.0} ms\n\
             answer     {} tokens, {rate} tokens/s\n\
             cache      {:.1} MB\n\
             drawn with {}",
            turn.n_prompt,
            turn.n_reused,
            turn.prefill.as_secs_f64() * 1e3,
            turn.ids.len(),
            blocks * per_block / 1e6,
            self.drawn_with().in_words(),
        ))
    }

    fn tell(&self, text: &str) -> Result<(), Failure> {
        let lines: Vec<String> = text.lines().map(|line| self.style.dim(line) + "\n").collect();
        to_stdout(&lines.concat())
    }
}

/// Streams an answer; returns what it cost and its parts.
pub(crate) fn stream<'s, W: std::io::Write>(
    speaker: &'s mut Speaker,
    prompt: &[u32],
    settings: &Settings,
    screen: &mut Screen<W>,
    interrupt: &Interrupt,
) -> Result<(Turn, Reply<'s>), Failure> {
    let Speaker { voice, dialect } = speaker;
    let Dialect { tokenizer, layout, opens_thinking, .. } = dialect;
    let mut reply = match layout {
        Layout::Plain => Reply::plain(tokenizer, &settings.stop),
        Layout::Chat(_) | Layout::Own(_) => Reply::new(tokenizer, *opens_thinking, &settings.stop),
    };
    let mut written = Ok(());
    let mut turn = voice.answer(prompt, settings, |id| {
        let (part, text) = reply.push(id);
        written = screen.show(part, &text);
        written.is_ok() && !interrupt.is_set() && !reply.is_stopped()
    })?;
    written?;
    if reply.is_stopped() {
        turn.ended = Ended::Stop;
    }
    let (part, text) = reply.end();
    screen.show(part, &text)?;
    screen.end()?;
    Ok((turn, reply))
}

/// A line on what an answer cost.
pub(crate) fn cost(turn: &Turn) -> String {
    let drafts = turn.drafts.acceptance();
    let drafts = drafts.map_or(String::new(), |share| {
        format!(" · {:.0} % of {} drafts accepted", 100.0 * share, turn.drafts.n_drafted)
    });
    let rate = turn.tokens_per_s().map_or(String::new(), |rate| format!(" · {rate:.0} tokens/s"));
    let how = match turn.ended {
        Ended::Stop => "",
        Ended::Length => " · cut off: no tokens left",
        Ended::Interrupted => " · stopped",
    };
    format!("{} tokens{rate}{drafts}{how}", turn.ids.len())
}
