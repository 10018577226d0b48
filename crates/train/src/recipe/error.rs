//! What can be wrong with a recipe, with enough data to name the key and the cure.

use std::fmt;
use std::path::PathBuf;

use super::nearest::nearest;

/// Where in a recipe something was found: a stage or table, and the keys below it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Where {
    /// Name of the stage, if inside one.
    pub stage: Option<String>,
    /// Keys from the stage (or the top of the file) down to the table in question.
    pub tables: Vec<String>,
}

impl fmt::Display for Where {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.stage, self.tables.is_empty()) {
            (None, true) => write!(f, "at the top of the recipe"),
            (None, false) => write!(f, "in table `{}`", self.tables.join(".")),
            (Some(stage), true) => write!(f, "in stage `{stage}`"),
            (Some(stage), false) => {
                write!(f, "in `{}` of stage `{stage}`", self.tables.join("."))
            }
        }
    }
}

/// A recipe that cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub enum RecipeError {
    /// Neither a readable file nor a built-in name.
    NotFound { name: String, built_in: Vec<&'static str> },
    /// The file exists and cannot be read.
    Unreadable { path: PathBuf, reason: String },
    /// Not TOML.
    Syntax { line: usize, column: usize, message: String },
    /// A key that nothing reads.
    UnknownKey { key: String, at: Box<Where>, known: Vec<String> },
    /// A word that is not one of the allowed ones.
    UnknownWord { key: String, found: String, at: Box<Where>, known: Vec<String> },
    /// A value of another type.
    WrongType { key: String, at: Box<Where>, expected: String, found: String },
    /// A key that must be given.
    MissingKey { key: String, at: Box<Where> },
    /// Two stages, or a stage and a model, of one name.
    DuplicateName { name: String },
    /// A name that would hide a key of the recipe or cannot be a folder.
    BadName { name: String, reason: &'static str },
    /// A stage refers to a stage that comes later, or to itself.
    LaterStage { stage: String, key: String, refers_to: String },
    /// A stage refers to nothing that exists.
    UnknownReference { stage: String, key: String, refers_to: String, known: Vec<String> },
    /// A stage refers to an earlier stage of a kind that has not what is needed.
    WrongKind { stage: String, key: String, refers_to: String, kind: &'static str },
    /// A value outside what can work.
    OutOfRange { key: String, at: Box<Where>, found: String, allowed: String },
    /// `--set` without an equals sign.
    MalformedSet { text: String },
    /// `--set` names nothing in the recipe.
    UnknownTarget { path: String, segment: String, known: Vec<String> },
}

impl fmt::Display for RecipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecipeError::NotFound { name, built_in } => {
                write!(f, "there is no recipe `{name}`")?;
                hint(f, name, built_in, "built-in recipes")
            }
            RecipeError::Unreadable { path, reason } => {
                write!(f, "cannot read recipe `{}`: {reason}", path.display())
            }
            RecipeError::Syntax { line, column, message } => {
                write!(f, "the recipe is not valid TOML at line {line}, column {column}: {message}")
            }
            RecipeError::UnknownKey { key, at, known } => {
                write!(f, "unknown key `{key}` {at}")?;
                hint(f, key, known, "known keys")
            }
            RecipeError::UnknownWord { key, found, at, known } => {
                write!(f, "`{key}` {at} cannot be `{found}`")?;
                hint(f, found, known, "it is one of")
            }
            RecipeError::WrongType { key, at, expected, found } => {
                write!(f, "`{key}` {at} must be {expected}, found {found}")
            }
            RecipeError::MissingKey { key, at } => write!(f, "key `{key}` is missing {at}"),
            RecipeError::DuplicateName { name } => {
                write!(
                    f,
                    "the name `{name}` is used twice\nhint: stages and models share one set of names, so that `--set {name}.key=value` is clear"
                )
            }
            RecipeError::BadName { name, reason } => write!(f, "the name `{name}` {reason}"),
            RecipeError::LaterStage { stage, key, refers_to } => write!(
                f,
                "`{key}` of stage `{stage}` refers to `{refers_to}`, which does not come before it\nhint: stages run from top to bottom; move `{refers_to}` up"
            ),
            RecipeError::UnknownReference { stage, key, refers_to, known } => {
                write!(
                    f,
                    "`{key}` of stage `{stage}` refers to `{refers_to}`, which does not exist"
                )?;
                hint(f, refers_to, known, "there are")
            }
            RecipeError::WrongKind { stage, key, refers_to, kind } => write!(
                f,
                "`{key}` of stage `{stage}` refers to `{refers_to}`, a stage of kind `{kind}`, which does not make what is needed"
            ),
            RecipeError::OutOfRange { key, at, found, allowed } => {
                write!(f, "`{key}` {at} must be {allowed}, found {found}")
            }
            RecipeError::MalformedSet { text } => write!(
                f,
                "cannot understand the setting `{text}`\nhint: write `--set key=value`, such as `--set seed=2`"
            ),
            RecipeError::UnknownTarget { path, segment, known } => {
                write!(f, "cannot set `{path}`: there is no `{segment}`")?;
                hint(f, segment, known, "there are")
            }
        }
    }
}

/// Writes the nearest known word as a hint, or all of them where none is near.
fn hint<S: AsRef<str>>(
    f: &mut fmt::Formatter<'_>,
    found: &str,
    known: &[S],
    list_title: &str,
) -> fmt::Result {
    if let Some(near) = nearest(found, known.iter().map(AsRef::as_ref)) {
        write!(f, "\nhint: did you mean `{near}`?")
    } else if known.is_empty() {
        Ok(())
    } else {
        let quoted: Vec<String> = known.iter().map(|k| format!("`{}`", k.as_ref())).collect();
        write!(f, "\nhint: {list_title}: {}", quoted.join(", "))
    }
}

impl std::error::Error for RecipeError {}
