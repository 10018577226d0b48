//! `tokenizer_config.json`: what a checkpoint says about its tokenizer beside the vocabulary.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::{Error, Result};

/// The settings that matter when text is encoded. Absent keys are `None` or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenizerConfig {
    pub bos_token: Option<String>,
    pub eos_token: Option<String>,
    pub pad_token: Option<String>,
    /// Whether the begin token stands before plain text. Templates write their own.
    pub add_bos_token: Option<bool>,
    pub add_eos_token: Option<bool>,
    /// Names and texts of the chat templates; a single one is named `default`. A
    /// `chat_template.jinja` beside the file replaces the default one.
    pub chat_templates: Vec<(String, String)>,
    /// In tokens; `None` also where a file says 1e30 for no limit.
    pub model_max_length: Option<u64>,
    pub tokenizer_class: Option<String>,
}

impl TokenizerConfig {
    /// Reads the file of a directory; `None` if there is none.
    /// Errors: `Read`, `Json`, `ConfigValue`.
    pub fn open(dir: impl AsRef<Path>) -> Result<Option<TokenizerConfig>> {
        let path = dir.as_ref().join("tokenizer_config.json");
        let Some(content) = read_if_there(&path)? else { return Ok(None) };
        let mut config = TokenizerConfig::from_bytes(&path, &content)?;
        let template_path = dir.as_ref().join("chat_template.jinja");
        if let Some(template) = read_if_there(&template_path)? {
            let template = String::from_utf8_lossy(&template).into_owned();
            config.chat_templates.retain(|(name, _)| name != "default");
            config.chat_templates.insert(0, ("default".into(), template));
        }
        Ok(Some(config))
    }

    /// Reads the content of a file; `path` is for errors. Errors: `Json`, `ConfigValue`.
    pub fn from_bytes(path: &Path, content: &[u8]) -> Result<TokenizerConfig> {
        let json: Value = serde_json::from_slice(content)
            .map_err(|source| Error::Json { path: path.to_owned(), source })?;
        let reader = Reader { path, json: &json };
        reader.object()?;
        Ok(TokenizerConfig {
            bos_token: reader.token("bos_token")?,
            eos_token: reader.token("eos_token")?,
            pad_token: reader.token("pad_token")?,
            add_bos_token: reader.flag("add_bos_token")?,
            add_eos_token: reader.flag("add_eos_token")?,
            chat_templates: reader.templates()?,
            model_max_length: reader.length("model_max_length")?,
            tokenizer_class: reader.text("tokenizer_class")?,
        })
    }

    /// The template named `default`, else the first.
    pub fn chat_template(&self) -> Option<&str> {
        let default = self.chat_templates.iter().find(|(name, _)| name == "default");
        default.or(self.chat_templates.first()).map(|(_, text)| text.as_str())
    }
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read { path: path.to_owned(), source }),
    }
}

struct Reader<'a> {
    path: &'a Path,
    json: &'a Value,
}

impl Reader<'_> {
    fn refuse<T>(&self, key: &'static str, expected: &'static str) -> Result<T> {
        let value = if key.is_empty() { self.json } else { &self.json[key] };
        let found = value.to_string().chars().take(80).collect();
        Err(Error::ConfigValue { path: self.path.to_owned(), key, found, expected })
    }

    fn object(&self) -> Result<()> {
        if self.json.is_object() { Ok(()) } else { self.refuse("", "an object") }
    }

    fn text(&self, key: &'static str) -> Result<Option<String>> {
        match &self.json[key] {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.clone())),
            _ => self.refuse(key, "a string"),
        }
    }

    fn flag(&self, key: &'static str) -> Result<Option<bool>> {
        match &self.json[key] {
            Value::Null => Ok(None),
            Value::Bool(flag) => Ok(Some(*flag)),
            _ => self.refuse(key, "`true` or `false`"),
        }
    }

    /// A token's text: itself, or the `content` of an object.
    fn token(&self, key: &'static str) -> Result<Option<String>> {
        match &self.json[key] {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.clone())),
            object => match object["content"].as_str() {
                Some(text) => Ok(Some(text.to_owned())),
                None => self.refuse(key, "a token, or an object with its `content`"),
            },
        }
    }

    fn length(&self, key: &'static str) -> Result<Option<u64>> {
        /// Above this a number is nothing but a way of writing "no limit".
        const MOST: f64 = 1e15;
        match &self.json[key] {
            Value::Null => Ok(None),
            value => match value.as_f64() {
                Some(n) if n >= MOST => Ok(None),
                Some(n) if n >= 0.0 => Ok(Some(n as u64)),
                _ => self.refuse(key, "a number of tokens"),
            },
        }
    }

    fn templates(&self) -> Result<Vec<(String, String)>> {
        let expected = "a template, or a list of `{\"name\", \"template\"}`";
        let entry = |entry: &Value| {
            let text = |key: &str| entry[key].as_str().map(str::to_owned);
            Some((text("name")?, text("template")?))
        };
        match &self.json["chat_template"] {
            Value::Null => Ok(Vec::new()),
            Value::String(text) => Ok(vec![("default".into(), text.clone())]),
            Value::Array(list) => match list.iter().map(entry).collect() {
                Some(templates) => Ok(templates),
                None => self.refuse("chat_template", expected),
            },
            _ => self.refuse("chat_template", expected),
        }
    }
}
