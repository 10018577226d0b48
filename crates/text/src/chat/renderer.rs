//! From a conversation to the prompt that asks for its next turn.
//!
//! Every format is a template: that of the checkpoint, or a built-in one. Control tokens come only
//! from the template (see `guard`), except `<think>` and `</think>` in what the assistant said.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::format::ChatFormat;
use super::guard::{ControlTokens, Marks, Stretch};
use super::json::Json;
use super::message::{Conversation, Message, Role};
use super::python::to_value;
use super::template::Template;
use crate::special::{BOS, END_THINK, EOS, EOT, PAD, THINK};
use crate::{Error, Result, Tokenizer};

/// Tokens that end a turn in some family, where its template writes them.
const TURN_ENDS: [&str; 3] = [EOT, "<|im_end|>", "<|eot_id|>"];
/// What an assistant may write as control tokens.
const THINKING: [&str; 2] = [THINK, END_THINK];

/// A chat template and the tokens that it names, as a checkpoint states them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateFile {
    /// The file, as errors name it.
    pub path: String,
    /// Jinja.
    pub text: String,
    pub bos_token: Option<String>,
    pub eos_token: Option<String>,
    pub pad_token: Option<String>,
    pub unk_token: Option<String>,
}

/// How a prompt shall be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// End with what makes the model answer.
    pub add_generation_prompt: bool,
    /// Think or not, for templates that ask: `thinking` and `enable_thinking`.
    pub thinking: Option<bool>,
    /// End inside the last message, the assistant's, so that the model goes on with it. Takes the
    /// place of `add_generation_prompt`.
    pub continue_last: bool,
    /// More variables for the template. They are trusted as the template is, but not more: control
    /// tokens in them are plain text.
    pub variables: Vec<(String, Json)>,
}

/// What a model reads before it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// With BOS, once.
    pub ids: Vec<u32>,
    /// The same as text.
    pub text: String,
    /// Whether the answer begins inside `<think>`.
    pub opened_thinking: bool,
    /// Tokens that end the answer, in ascending order.
    pub stop_ids: Vec<u32>,
    /// Texts that end the answer.
    pub stop_strings: Vec<String>,
}

/// Lays out conversations for one checkpoint.
pub struct ChatRenderer {
    template: Template,
    controls: ControlTokens,
    file: TemplateFile,
    format: Option<ChatFormat>,
    /// Whether the template writes out arguments as JSON itself, so needs them parsed.
    wants_parsed_arguments: bool,
}

impl ChatRenderer {
    /// A renderer through the template of a checkpoint. Where `file` does not name BOS, EOS and
    /// padding, they are DeepSeek's, if the tokenizer has them.
    ///
    /// Errors: `Template`, `TemplateSize`.
    pub fn new(mut file: TemplateFile, tokenizer: &Tokenizer) -> Result<ChatRenderer> {
        let own = |token: &str| tokenizer.token_id(token).map(|_| token.to_owned());
        file.bos_token = file.bos_token.or_else(|| own(BOS));
        file.eos_token = file.eos_token.or_else(|| own(EOS));
        file.pad_token = file.pad_token.or_else(|| own(PAD));
        let template = Template::compile(&file.path, &file.text)?;
        let dense: String = file.text.chars().filter(|c| !c.is_whitespace()).collect();
        let writes_json =
            ["arguments|tojson", "arguments']|tojson", "arguments\"]|tojson", "arguments|items"];
        let wants_parsed_arguments = writes_json.iter().any(|text| dense.contains(text))
            && !["argumentsisstring", "arguments']isstring", "arguments\"]isstring"]
                .iter()
                .any(|text| dense.contains(text));
        let controls = ControlTokens::of(tokenizer)?;
        Ok(ChatRenderer { template, controls, file, format: None, wants_parsed_arguments })
    }

    /// A renderer of a built-in format. Errors: `MissingToken`.
    pub fn built_in(format: ChatFormat, tokenizer: &Tokenizer) -> Result<ChatRenderer> {
        let row = format.row();
        for token in row.needs {
            tokenizer.special_id(token)?;
        }
        let path = format!("built-in format {}", row.name);
        let file = TemplateFile { path, text: row.template.to_owned(), ..TemplateFile::default() };
        Ok(ChatRenderer { format: Some(format), ..ChatRenderer::new(file, tokenizer)? })
    }

    /// The renderer of a checkpoint directory: its own template, or none if it has no template.
    ///
    /// Errors: `Read`, `Json`, and those of [`ChatRenderer::new`].
    pub fn open(dir: impl AsRef<Path>, tokenizer: &Tokenizer) -> Result<Option<ChatRenderer>> {
        let file = TemplateFile::open(dir)?;
        file.map(|file| ChatRenderer::new(file, tokenizer)).transpose()
    }

    /// The built-in format; none for a checkpoint's own template.
    pub fn format(&self) -> Option<ChatFormat> {
        self.format
    }

    /// The template.
    pub fn file(&self) -> &TemplateFile {
        &self.file
    }

    /// Whether [`Options::thinking`] has an effect.
    pub fn asks_thinking(&self) -> bool {
        ["thinking is", "enable_thinking", "if thinking", "not thinking"]
            .iter()
            .any(|text| self.file.text.contains(text))
    }

    /// The prompt of a conversation.
    ///
    /// Errors: `Conversation` for an empty one, or one that cannot be continued; `Template`;
    /// `Refused` by the template; `MarksTaken`.
    pub fn prompt(
        &self,
        tokenizer: &Tokenizer,
        conversation: &Conversation,
        options: &Options,
    ) -> Result<Prompt> {
        let Some(last) = conversation.messages.last() else {
            return Err(Error::Conversation { index: 0, found: "missing", expected: "a message" });
        };
        if options.continue_last && last.role != Role::Assistant {
            let (index, found) = (conversation.messages.len() - 1, last.role.name());
            let expected = "the assistant's, which is to be continued";
            return Err(Error::Conversation { index, found, expected });
        }
        let marks = self.unused_marks(conversation, options)?;
        let request = Request { renderer: self, conversation, options, marks };
        let rendered = match last.reasoning_content.as_deref() {
            Some(reasoning) if options.continue_last && !reasoning.is_empty() => {
                request.continued_thinking(last, reasoning)?
            }
            _ if options.continue_last => request.continued()?,
            _ => request.render(&conversation.messages, options.add_generation_prompt)?,
        };
        let rendered = self.with_one_bos(&rendered);
        Ok(Prompt {
            ids: self.controls.encode(tokenizer, rendered, marks),
            text: marks.remove(rendered),
            opened_thinking: self.opens_thinking(rendered),
            stop_ids: self.stop_ids(tokenizer),
            stop_strings: self.stop_strings(),
        })
    }

    /// Tokens that end an answer, in ascending order.
    pub fn stop_ids(&self, tokenizer: &Tokenizer) -> Vec<u32> {
        let mentioned = TURN_ENDS.into_iter().filter(|token| self.file.text.contains(token));
        let ends = self.file.eos_token.as_deref().into_iter().chain(mentioned);
        let mut ids: Vec<u32> = ends.filter_map(|token| tokenizer.token_id(token)).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    fn stop_strings(&self) -> Vec<String> {
        let strings = self.format.map_or(&[][..], |format| format.row().stop_strings);
        strings.iter().map(|text| (*text).to_owned()).collect()
    }

    fn unused_marks(&self, conversation: &Conversation, options: &Options) -> Result<Marks> {
        Marks::unused(|visit| {
            visit(&self.file.text);
            for_each_string(conversation, visit);
            for (_, value) in &options.variables {
                value.for_each_string(&mut |text| visit(text));
            }
        })
    }

    /// The rendered text with one BOS where a template writes two.
    fn with_one_bos<'r>(&self, rendered: &'r str) -> &'r str {
        let Some(bos) = self.file.bos_token.as_deref().filter(|bos| !bos.is_empty()) else {
            return rendered;
        };
        let mut rest = rendered;
        while let Some(next) = rest.strip_prefix(bos).filter(|next| next.starts_with(bos)) {
            rest = next;
        }
        rest
    }

    /// Whether the last thinking marker opens, and no other control token follows it.
    fn opens_thinking(&self, rendered: &str) -> bool {
        let mut opened = false;
        for stretch in self.controls.stretches(rendered) {
            match stretch {
                Stretch::Control(THINK, _) => opened = true,
                Stretch::Control(END_THINK, _) => opened = false,
                Stretch::Control(token, Some(_)) if ControlTokens::controls(token) => {
                    opened = false
                }
                _ => {}
            }
        }
        opened
    }
}

/// One prompt in the making.
struct Request<'a> {
    renderer: &'a ChatRenderer,
    conversation: &'a Conversation,
    options: &'a Options,
    marks: Marks,
}

impl Request<'_> {
    fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let mut values: Vec<Json> = messages.iter().map(|message| self.message(message)).collect();
        if self.options.continue_last && messages.len() == self.conversation.messages.len() {
            self.mark_end(values.last_mut());
        }
        let variables = self.variables(values, add_generation_prompt);
        let mut n_bytes = 0;
        variables.for_each_string(&mut |text| n_bytes += text.len());
        self.renderer.template.render(to_value(&variables), n_bytes)
    }

    /// Up to the end of the last message's content. As in Hugging Face, white space at its end is
    /// kept only if the template keeps it.
    fn continued(&self) -> Result<String> {
        let rendered = self.render(&self.conversation.messages, false)?;
        let Some((before, after)) = rendered.rsplit_once(self.marks.end) else {
            return Err(self.not_continuable("the assistant's, but the template leaves it out"));
        };
        let kept = if after.starts_with(' ') { before } else { before.trim_end() };
        Ok(kept.replace(self.marks.end, ""))
    }

    /// Up to the end of the last message, which has a reasoning: inside it if no answer follows.
    fn continued_thinking(&self, last: &Message, reasoning: &str) -> Result<String> {
        let before = &self.conversation.messages[..self.conversation.messages.len() - 1];
        let mut rendered = self.render(before, true)?;
        if !rendered.trim_end().ends_with(THINK) {
            return Err(self.not_continuable("the assistant's reasoning, which is not opened here"));
        }
        if rendered.ends_with(THINK) && !reasoning.starts_with('\n') && self.breaks_after_think() {
            rendered.push('\n');
        }
        rendered += &self.guard(reasoning, &[]);
        if !last.content.is_empty() {
            rendered += &format!("\n{END_THINK}\n\n{}", self.guard(&last.content, &THINKING));
        }
        Ok(rendered)
    }

    /// Whether the model itself writes a line break after `<think>`: all but V3.1 do.
    fn breaks_after_think(&self) -> bool {
        !self.renderer.asks_thinking()
    }

    fn not_continuable(&self, found: &'static str) -> Error {
        let index = self.conversation.messages.len() - 1;
        Error::Conversation { index, found, expected: "a message that can be continued" }
    }

    fn mark_end(&self, last: Option<&mut Json>) {
        let Some(Json::Object(entries)) = last else { return };
        if let Some((_, content)) = entries.iter_mut().find(|(key, _)| key == "content") {
            let text = content.as_str().unwrap_or_default();
            *content = Json::String(format!("{text}{} ", self.marks.end));
        }
    }

    fn variables(&self, messages: Vec<Json>, add_generation_prompt: bool) -> Json {
        let file = &self.renderer.file;
        let token = |token: &Option<String>| token.clone().map_or(Json::Null, Json::String);
        let guarded = |json: &Json| json.map_strings(&|text| self.guard(text, &[]));
        let tools = &self.conversation.tools;
        let tools = match tools.is_empty() {
            true => Json::Null,
            false => Json::Array(tools.iter().map(guarded).collect()),
        };
        let mut variables = vec![
            ("messages".to_owned(), Json::Array(messages)),
            ("tools".to_owned(), tools),
            ("documents".to_owned(), Json::Null),
            ("add_generation_prompt".to_owned(), Json::Bool(add_generation_prompt)),
            ("bos_token".to_owned(), token(&file.bos_token)),
            ("eos_token".to_owned(), token(&file.eos_token)),
            ("pad_token".to_owned(), token(&file.pad_token)),
            ("unk_token".to_owned(), token(&file.unk_token)),
        ];
        // Hugging Face leaves tokens that are not set undefined.
        variables.retain(|(name, value)| !(name.ends_with("_token") && *value == Json::Null));
        for name in ["thinking", "enable_thinking"] {
            variables.extend(self.options.thinking.map(|on| (name.to_owned(), Json::Bool(on))));
        }
        for (name, value) in &self.options.variables {
            variables.retain(|(taken, _)| taken != name);
            variables.push((name.clone(), guarded(value)));
        }
        Json::Object(variables)
    }

    /// A message as templates read it; keys without a value are left out.
    fn message(&self, message: &Message) -> Json {
        let key = |name: &str, text: String| (name.to_owned(), Json::String(text));
        let by_assistant = message.role == Role::Assistant;
        let allowed: &[&str] = if by_assistant { &THINKING } else { &[] };
        let content = match message.content.is_empty() && !message.tool_calls.is_empty() {
            true => Json::Null,
            false => Json::String(self.guard(&message.content, allowed)),
        };
        let mut entries =
            vec![key("role", message.role.name().to_owned()), ("content".to_owned(), content)];
        if let Some(reasoning) = &message.reasoning_content {
            // The second name is that of some templates.
            entries.push(key("reasoning_content", self.guard(reasoning, &[])));
            entries.insert(0, key("thinking", self.guard(reasoning, &[])));
        }
        if !message.tool_calls.is_empty() {
            let calls = message.tool_calls.iter().map(|call| {
                let text = || Json::String(self.guard(&call.arguments, &[]));
                let parsed = match self.renderer.wants_parsed_arguments {
                    true => Json::parse(&call.arguments).ok(),
                    false => None,
                };
                let arguments = parsed
                    .map_or_else(text, |value| value.map_strings(&|text| self.guard(text, &[])));
                Json::Object(vec![
                    key("id", self.guard(&call.id, &[])),
                    key("type", "function".to_owned()),
                    (
                        "function".to_owned(),
                        Json::Object(vec![
                            key("name", self.guard(&call.name, &[])),
                            ("arguments".to_owned(), arguments),
                        ]),
                    ),
                ])
            });
            entries.push(("tool_calls".to_owned(), Json::Array(calls.collect())));
        }
        let others = [("tool_call_id", &message.tool_call_id), ("name", &message.name)];
        for (name, value) in others {
            entries.extend(value.as_ref().map(|text| key(name, self.guard(text, &[]))));
        }
        Json::Object(entries)
    }

    fn guard(&self, text: &str, allowed: &[&str]) -> String {
        self.renderer.controls.guard(text, self.marks, allowed)
    }
}

fn for_each_string(conversation: &Conversation, visit: &mut dyn FnMut(&str)) {
    for message in &conversation.messages {
        visit(&message.content);
        let optional = [&message.reasoning_content, &message.tool_call_id, &message.name];
        optional.into_iter().flatten().for_each(|text| visit(text));
        for call in &message.tool_calls {
            [&call.id, &call.name, &call.arguments].into_iter().for_each(|text| visit(text));
        }
    }
    for tool in &conversation.tools {
        tool.for_each_string(&mut |text| visit(text));
    }
}

impl TemplateFile {
    /// The template of a checkpoint directory: `chat_template.jinja`, else `chat_template` in
    /// `tokenizer_config.json` (of several, the one named `default`).
    ///
    /// Errors: `Read`, `Json`.
    pub fn open(dir: impl AsRef<Path>) -> Result<Option<TemplateFile>> {
        let dir = dir.as_ref();
        let config_path = dir.join("tokenizer_config.json");
        let config = match read_if_present(&config_path)? {
            Some(text) => Json::parse(&text)
                .map_err(|source| Error::Json { path: config_path.clone(), source })?,
            None => Json::Null,
        };
        let template_path = dir.join("chat_template.jinja");
        let (path, text) = match read_if_present(&template_path)? {
            Some(text) => (template_path, text),
            None => match template_of(&config) {
                Some(text) => (config_path, text.to_owned()),
                None => return Ok(None),
            },
        };
        let token = |name: &str| {
            let token = config.get(name)?;
            let text = token.as_str().or_else(|| token.get("content")?.as_str())?;
            Some(text.to_owned())
        };
        Ok(Some(TemplateFile {
            path: path.display().to_string(),
            text,
            bos_token: token("bos_token"),
            eos_token: token("eos_token"),
            pad_token: token("pad_token"),
            unk_token: token("unk_token"),
        }))
    }
}

fn template_of(config: &Json) -> Option<&str> {
    let template = config.get("chat_template")?;
    let Json::Array(named) = template else { return template.as_str() };
    let is_default = |entry: &&Json| entry.get("name").and_then(Json::as_str) == Some("default");
    named.iter().find(is_default).or(named.first())?.get("template")?.as_str()
}

fn read_if_present(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read { path: path.to_owned(), source }),
    }
}
