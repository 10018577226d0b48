//! Messages made of blocks: text, thinking, uses of tools and their results.

use crate::protocol::fields::{Fields, quoted};
use crate::protocol::messages::forget_earlier_thinking;
use crate::refusal::Refusal;
use fathom_text::chat::Json;
use fathom_text::{Message, Role, ToolCall};

/// Messages that may be laid out.
pub(super) struct Turns {
    pub(super) messages: Vec<Message>,
    /// Whether the last is the beginning of the answer.
    pub(super) prefix: bool,
    /// What a client should know.
    pub(super) notes: Vec<String>,
}

/// Reads `system`: text, or blocks of text.
pub(super) fn system(fields: &Fields) -> Result<Option<String>, Refusal> {
    let text = match fields.any("system") {
        None => return Ok(None),
        Some(Json::String(text)) => text.clone(),
        Some(Json::Array(items)) => {
            let texts = items.iter().enumerate().map(|(at, item)| {
                let block = Fields::of(format!("system[{at}]"), item)?;
                text_of(&block, &["text"])
            });
            texts.collect::<Result<Vec<String>, Refusal>>()?.join("\n\n")
        }
        Some(other) => return Err(fields.wrong("system", "a string or a list of blocks", other)),
    };
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// Reads `messages`. Errors: 400 naming the block.
pub(super) fn turns(fields: &Fields) -> Result<Turns, Refusal> {
    let Some(items) = fields.list("messages")? else {
        return Err(fields.missing("messages", "a list of messages"));
    };
    if items.is_empty() {
        let message = "`messages` must have at least one message, not 0";
        return Err(Refusal::invalid("messages", message));
    }
    let mut reader = Reader::default();
    for (at, item) in items.iter().enumerate() {
        let message = Fields::of(format!("messages[{at}]"), item)?;
        match message.word("role", &["user", "assistant", "system"])? {
            None => return Err(message.missing("role", "`user` or `assistant`")),
            Some("user") => reader.user(&message)?,
            Some("assistant") => reader.assistant(&message)?,
            Some(_) => reader.system(&message)?,
        }
        reader.notes.extend(message.unknown().iter().map(|path| format!("unknown field: {path}")));
    }
    reader.end()
}

#[derive(Default)]
struct Reader {
    messages: Vec<Message>,
    /// Uses of tools in the last message whose results are still to come.
    open: Vec<String>,
    notes: Vec<String>,
}

impl Reader {
    fn user(&mut self, message: &Fields) -> Result<(), Refusal> {
        let mut text = Vec::new();
        for block in blocks(message)? {
            match block.kind {
                "text" => text.push(block.text()?),
                "tool_result" if text.is_empty() => self.result(&block.fields)?,
                "tool_result" => {
                    let path = block.fields.path("type");
                    let what = format!("`{path}`: results of tools stand in front of text");
                    return Err(Refusal::invalid(path, what));
                }
                _ => return Err(block.unsupported(&["text", "tool_result"])),
            }
        }
        let is_answered = self.messages.last().is_some_and(|last| last.role == Role::Tool);
        if !text.is_empty() || !is_answered {
            self.expect_no_open(message)?;
            self.messages.push(Message::user(text.join("\n\n")));
        }
        Ok(())
    }

    fn result(&mut self, block: &Fields) -> Result<(), Refusal> {
        let id = block.needed_text("tool_use_id")?;
        let Some(place) = self.open.iter().position(|known| known == id) else {
            let path = block.path("tool_use_id");
            let what =
                format!("`{path}` must name a `tool_use` of the message before it, not `{id}`");
            return Err(Refusal::invalid(path, what));
        };
        self.open.remove(place);
        let content = match block.any("content") {
            None => String::new(),
            Some(Json::String(text)) => text.clone(),
            Some(Json::Array(_)) => {
                let read = |block: Block| match block.kind {
                    "text" => block.text(),
                    _ => Err(block.unsupported(&["text"])),
                };
                let texts = blocks(block)?.into_iter().map(read);
                texts.collect::<Result<Vec<String>, Refusal>>()?.join("\n\n")
            }
            Some(other) => {
                return Err(block.wrong("content", "a string or a list of blocks", other));
            }
        };
        if block.flag("is_error")?.unwrap_or(false) {
            let path = block.path("is_error");
            self.notes.push(format!("{path} has no effect: say in the content what went wrong"));
        }
        let tool = Message { tool_call_id: Some(id.to_owned()), ..Message::tool(content) };
        self.messages.push(tool);
        Ok(())
    }

    fn assistant(&mut self, message: &Fields) -> Result<(), Refusal> {
        const KINDS: &[&str] = &["text", "thinking", "tool_use"];
        self.expect_no_open(message)?;
        let mut said = Message::assistant("");
        for block in blocks(message)? {
            let fields = &block.fields;
            match block.kind {
                "text" => said.content += &block.text()?,
                "thinking" => {
                    fields.text("signature")?;
                    let thinking = said.reasoning_content.get_or_insert_default();
                    thinking.push_str(fields.needed_text("thinking")?);
                }
                "tool_use" => {
                    let id = fields.needed_text("id")?.to_owned();
                    let name = fields.needed_text("name")?.to_owned();
                    let arguments = match fields.any("input") {
                        None => "{}".to_owned(),
                        Some(input @ Json::Object(_)) => input.to_string(),
                        Some(other) => return Err(fields.wrong("input", "an object", other)),
                    };
                    self.open.push(id.clone());
                    said.tool_calls.push(ToolCall { id, name, arguments });
                }
                _ => return Err(block.unsupported(KINDS)),
            }
        }
        self.messages.push(said);
        Ok(())
    }

    fn system(&mut self, message: &Fields) -> Result<(), Refusal> {
        self.expect_no_open(message)?;
        let mut texts = Vec::new();
        for block in blocks(message)? {
            match block.kind {
                "text" => texts.push(block.text()?),
                _ => return Err(block.unsupported(&["text"])),
            }
        }
        self.messages.push(Message::system(texts.join("\n\n")));
        Ok(())
    }

    /// Every use of a tool has its result before the conversation goes on.
    fn expect_no_open(&self, message: &Fields) -> Result<(), Refusal> {
        if self.open.is_empty() {
            return Ok(());
        }
        let path = message.path("content");
        let ids = quoted(&self.open);
        let what = format!("`{path}` must begin with a `tool_result` for each of {ids}");
        Err(Refusal::invalid(path, what))
    }

    fn end(mut self) -> Result<Turns, Refusal> {
        if !self.open.is_empty() {
            let ids = quoted(&self.open);
            let what =
                format!("the last of `messages` must have a `tool_result` for each of {ids}");
            return Err(Refusal::invalid("messages", what));
        }
        let prefix = self.messages.last().is_some_and(|last| last.role == Role::Assistant);
        forget_earlier_thinking(&mut self.messages, prefix);
        Ok(Turns { messages: self.messages, prefix, notes: self.notes })
    }
}

/// A block, or the text that stands for one.
struct Block<'a> {
    kind: &'a str,
    fields: Fields<'a>,
    /// Text that is no block.
    plain: Option<&'a str>,
}

impl Block<'_> {
    fn text(&self) -> Result<String, Refusal> {
        match self.plain {
            Some(text) => Ok(text.to_owned()),
            None => text_of(&self.fields, &["text"]),
        }
    }

    fn unsupported(&self, kinds: &[&str]) -> Refusal {
        unsupported(&self.fields, self.kind, kinds)
    }
}

/// The blocks of `content`.
fn blocks<'a>(message: &Fields<'a>) -> Result<Vec<Block<'a>>, Refusal> {
    let items = match message.any("content") {
        None => return Err(message.missing("content", "a string or a list of blocks")),
        Some(Json::String(text)) => {
            let fields = Fields::of(message.path("content"), &EMPTY)?;
            return Ok(vec![Block { kind: "text", fields, plain: Some(text) }]);
        }
        Some(Json::Array(items)) => items,
        Some(other) => {
            return Err(message.wrong("content", "a string or a list of blocks", other));
        }
    };
    let block = |(at, item)| {
        let fields = Fields::of(message.path(format!("content[{at}]")), item)?;
        // Prompts are cached without being asked to.
        fields.without_effect(&["cache_control", "citations"]);
        Ok(Block { kind: fields.needed_text("type")?, fields, plain: None })
    };
    items.iter().enumerate().map(block).collect()
}

static EMPTY: Json = Json::Object(Vec::new());

fn text_of(block: &Fields, kinds: &[&str]) -> Result<String, Refusal> {
    match block.needed_text("type")? {
        "text" => Ok(block.needed_text("text")?.to_owned()),
        other => Err(unsupported(block, other, kinds)),
    }
}

fn unsupported(block: &Fields, kind: &str, kinds: &[&str]) -> Refusal {
    let path = block.path("type");
    let what = match kind {
        "image" => format!(
            "`{path}` is `image`, and this model reads text only\nhint: describe the image in words"
        ),
        "document" => format!(
            "`{path}` is `document`, which is not supported\nhint: send its text in a text block"
        ),
        _ => format!("`{path}` must be one of {} here, not `{kind}`", quoted(kinds)),
    };
    Refusal::invalid(path, what).code("unsupported_content")
}
