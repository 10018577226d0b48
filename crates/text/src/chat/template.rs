//! A chat template compiled and rendered: Jinja as Hugging Face's `apply_chat_template` runs it.
//!
//! A template is a program that came with a checkpoint, so it may be hostile. What it may do:
//! nothing outside (no files, no includes), [`FUEL`] steps or bytes, nested so deep as fits the
//! stack of its own thread. What differs from Hugging Face: `strftime_now` is in UTC, and tags
//! `{% generation %}` have no effect.
//!
//! TODO(chat): minijinja 3.1 does not charge for joining or comparing lists with `+`, `~` and `==`.
//! A template made for it, which doubles a list again and again, can still take all memory.

use std::thread;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value};

use super::python;
use crate::{Error, Result};

/// Steps that a template may take beside those its input pays for; 64 bytes cost one. Real
/// templates need a few dozen per message.
const FUEL: u64 = 1 << 19;
/// Input bytes that pay for one more step: enough for templates that copy the conversation often.
const INPUT_BYTES_PER_FUEL: u64 = 2;
/// Longest template; real ones have up to 40,000 bytes.
const MAX_TEMPLATE_BYTES: usize = 1 << 18;
/// Values that a template nested are dropped recursively, and fuel bounds how deep they are: this
/// is room for all of it. Pages are taken only when touched.
const STACK_BYTES: usize = 512 << 20;

/// A compiled template.
pub(super) struct Template {
    environment: Environment<'static>,
    /// The file, as errors name it.
    path: String,
}

impl Template {
    /// Compiles a template. Errors: `Template`.
    pub(super) fn compile(path: &str, text: &str) -> Result<Template> {
        if text.len() > MAX_TEMPLATE_BYTES {
            let (found, limit) = (text.len(), MAX_TEMPLATE_BYTES);
            return Err(Error::TemplateSize { path: path.to_owned(), found, limit });
        }
        let text = without_generation_tags(text);
        let compiled = on_own_stack(|| {
            let mut environment = environment();
            environment.add_template_owned(path.to_owned(), text)?;
            Ok(environment)
        });
        let environment = compiled.map_err(|error| failed(path, error))?;
        Ok(Template { environment, path: path.to_owned() })
    }

    /// The text for these variables, whose strings have `input_bytes` altogether.
    ///
    /// Errors: `Template`, and `Refused` if the template calls `raise_exception`.
    pub(super) fn render(&self, variables: Value, input_bytes: usize) -> Result<String> {
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(FUEL + input_bytes as u64 / INPUT_BYTES_PER_FUEL));
        let rendered = on_own_stack(|| environment.get_template(&self.path)?.render(variables));
        rendered.map_err(|error| failed(&self.path, error))
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("only white space is set, delimiters stay"));
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    python::add_to(&mut environment);
    environment
}

/// Training templates mark what the assistant says; rendering ignores that.
fn without_generation_tags(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("{%") {
        // The end of `{%}` is not that of a tag: its `%` is the beginning's.
        let Some(length) = rest[start + 2..].find("%}") else { break };
        let tag = &rest[start + 2..start + 2 + length];
        let words = tag.trim_matches(['-', '+']).trim();
        result.push_str(&rest[..start + 2]);
        match words {
            "generation" => result.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => result.push_str(&tag.replace("endgeneration", "endif")),
            _ => result.push_str(tag),
        }
        rest = &rest[start + 2 + length..];
    }
    result + rest
}

/// Runs `work` where nested values cannot exhaust the stack.
fn on_own_stack<T: Send>(
    work: impl FnOnce() -> Result<T, minijinja::Error> + Send,
) -> Result<T, minijinja::Error> {
    let no_thread = |error| {
        minijinja::Error::new(ErrorKind::InvalidOperation, "no thread could be started")
            .with_source::<std::io::Error>(error)
    };
    thread::scope(|scope| {
        let builder = thread::Builder::new().name("template".into()).stack_size(STACK_BYTES);
        let worker = builder.spawn_scoped(scope, work).map_err(no_thread)?;
        match worker.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn failed(path: &str, error: minijinja::Error) -> Error {
    let path = path.to_owned();
    match python::raised(&error) {
        Some(message) => Error::Refused { path, message },
        None => Error::Template { path, line: error.line(), source: Box::new(error) },
    }
}
