//! From TOML text to a checked [`Recipe`], and back to the complete text that a run keeps.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use toml::{Table, Value};

use super::built_in::BUILT_IN;
use super::error::{RecipeError, Where};
use super::settings::{Precision, Task};
use super::stage::{Kind, Stage};
use super::{overrides, strict, validate};

/// The keys at the top of a recipe.
pub(super) const TOP_LEVEL_KEYS: &[&str] = &[
    "name",
    "description",
    "seed",
    "precision",
    "recompute",
    "main_model",
    "task",
    "models",
    "stage",
];

/// A whole training run: what is learnt, by which models, in which stages.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recipe {
    /// Names the run directory.
    pub name: String,
    /// One or two sentences for people.
    pub description: String,
    /// Every random choice of the run derives from it.
    pub seed: u64,
    /// Number format of matrix products.
    pub precision: Precision,
    /// Layers run again in the backward pass instead of keeping what they computed: less memory, a quarter more
    /// time, the same bits.
    pub recompute: bool,
    /// The stage whose model the run directory stands for; by default the last one that makes one.
    pub main_model: String,
    /// What is learnt.
    pub task: Task,
    /// Models by name, each in the words of `config.json`; checked by the model crate.
    pub models: BTreeMap<String, serde_json::Value>,
    /// The stages, in the order in which they run.
    #[serde(rename = "stage")]
    pub stages: Vec<Stage>,
}

/// A key whose value differs between two recipes; `None` where one lacks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Dotted path, as `--set` takes it.
    pub key: String,
    /// The value in the first recipe, as TOML.
    pub first: Option<String>,
    /// The value in the second.
    pub second: Option<String>,
}

impl Recipe {
    /// Reads the file `name`, or else the built-in recipe of that name, and applies `--set`s.
    pub fn load(name: &str, sets: &[String]) -> Result<Recipe, RecipeError> {
        // A built-in name must not be hidden by a directory of the same name, such as a run.
        let path = Path::new(name);
        if path.is_file() {
            let text = std::fs::read_to_string(path).map_err(|error| RecipeError::Unreadable {
                path: path.to_owned(),
                reason: error.to_string(),
            })?;
            return Recipe::parse(&text, sets);
        }
        match BUILT_IN.iter().find(|recipe| recipe.name == name) {
            Some(recipe) => Recipe::parse(recipe.text, sets),
            None => {
                let built_in = BUILT_IN.iter().map(|recipe| recipe.name).collect();
                Err(RecipeError::NotFound { name: name.to_owned(), built_in })
            }
        }
    }

    /// Reads TOML text, applies assignments (`base.steps=100`) in order, and checks the whole.
    ///
    /// Errors: any [`RecipeError`] but `NotFound` and `Unreadable`.
    pub fn parse(text: &str, sets: &[String]) -> Result<Recipe, RecipeError> {
        let mut table: Table = toml::from_str(text).map_err(|error| syntax(text, &error))?;
        check_top_level(&table)?;
        for set in sets {
            overrides::assign(&mut table, set)?;
        }
        let recipe = read_recipe(table)?;
        validate::check(&recipe)?;
        Ok(recipe)
    }

    /// The complete recipe with every default written out; parses to the same recipe.
    pub fn resolved(&self) -> String {
        toml::to_string(self).expect("a parsed recipe holds only what TOML can hold")
    }

    /// The stage of a name.
    pub fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.name == name)
    }

    /// The name of the model of `[models]` that a stage trains or starts from.
    ///
    /// `None` if the stage has no model, or starts from a checkpoint given as a path.
    pub fn model_of(&self, stage: &str) -> Option<&str> {
        match &self.stage(stage)?.kind {
            Kind::Pretrain(settings) => Some(&settings.model),
            Kind::Ablation(settings) => Some(&settings.model),
            // `from` is an earlier stage (checked), so this ends.
            Kind::Sft(settings) => self.model_of(&settings.from),
            Kind::Grpo(settings) => self.model_of(&settings.from),
            Kind::Rejection(settings) => self.model_of(&settings.from),
            Kind::Tokenizer(_) | Kind::Evaluate(_) => None,
        }
    }

    /// Where two recipes differ in anything that changes the result; `minutes` may differ, since
    /// a resumed run may be given more time, and `recompute`, since bits are the same.
    pub fn differences(&self, other: &Recipe) -> Vec<Difference> {
        let (first, second) = (self.flat(), other.flat());
        let keys: std::collections::BTreeSet<&String> = first.keys().chain(second.keys()).collect();
        keys.into_iter()
            .filter(|key| first.get(*key) != second.get(*key))
            .filter(|key| !key.ends_with(".minutes") && *key != "recompute")
            .map(|key| Difference {
                key: key.clone(),
                first: first.get(key).cloned(),
                second: second.get(key).cloned(),
            })
            .collect()
    }

    /// Every value by its dotted path.
    fn flat(&self) -> BTreeMap<String, String> {
        let value = Value::try_from(self).expect("a parsed recipe holds only what TOML can hold");
        let mut flat = BTreeMap::new();
        for (key, below) in value.as_table().into_iter().flatten() {
            match (key.as_str(), below) {
                ("stage", Value::Array(stages)) => {
                    let names: Vec<&str> = self.stages.iter().map(|s| s.name.as_str()).collect();
                    flat.insert("stages".into(), names.join(", "));
                    for (stage, settings) in self.stages.iter().zip(stages) {
                        flatten(&stage.name, settings, &mut flat);
                    }
                }
                _ => flatten(key, below, &mut flat),
            }
        }
        flat
    }
}

/// Whether a `from` or `data` means a path rather than the name of a stage or a word.
pub fn is_path(text: &str) -> bool {
    text.contains(['/', '\\']) || text.starts_with('.') || text.starts_with('~')
}

fn flatten(path: &str, value: &Value, flat: &mut BTreeMap<String, String>) {
    match value {
        Value::Table(table) => {
            for (key, below) in table {
                flatten(&format!("{path}.{key}"), below, flat);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_table) => {
            for (idx, item) in items.iter().enumerate() {
                flatten(&format!("{path}.{idx}"), item, flat);
            }
        }
        _ => {
            flat.insert(path.to_owned(), value.to_string());
        }
    }
}

fn syntax(text: &str, error: &toml::de::Error) -> RecipeError {
    let start = error.span().map_or(0, |span| span.start).min(text.len());
    let before = text.get(..start).unwrap_or("");
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    RecipeError::Syntax { line, column, message: error.message().replace('\n', ", ") }
}

fn check_top_level(table: &Table) -> Result<(), RecipeError> {
    let known = || TOP_LEVEL_KEYS.iter().map(|key| key.to_string()).collect();
    for key in table.keys() {
        if !TOP_LEVEL_KEYS.contains(&key.as_str()) {
            let (key, at) = (key.clone(), Box::default());
            return Err(RecipeError::UnknownKey { key, at, known: known() });
        }
    }
    Ok(())
}

fn read_recipe(mut table: Table) -> Result<Recipe, RecipeError> {
    let name = match table.remove("name") {
        Some(value) => under("name", value)?,
        None => return Err(missing("name", Where::default())),
    };
    let mut stages = Vec::new();
    for (idx, value) in stage_tables(table.remove("stage"))?.into_iter().enumerate() {
        stages.push(read_stage(idx, value)?);
    }
    let models: BTreeMap<String, serde_json::Value> = optional(&mut table, "models")?;
    for (model, config) in &models {
        if !config.is_object() {
            return Err(RecipeError::WrongType {
                key: model.clone(),
                at: Box::new(Where { stage: None, tables: vec!["models".into()] }),
                expected: "a table".into(),
                found: config.to_string(),
            });
        }
    }
    let last_model = stages.iter().rev().find(|stage: &&Stage| stage.kind.makes_model());
    let main_model = match table.remove("main_model") {
        Some(value) => under("main_model", value)?,
        None => last_model.map(|stage| stage.name.clone()).unwrap_or_default(),
    };
    Ok(Recipe {
        name,
        main_model,
        description: optional(&mut table, "description")?,
        seed: optional(&mut table, "seed")?,
        precision: optional(&mut table, "precision")?,
        recompute: optional(&mut table, "recompute")?,
        task: optional(&mut table, "task")?,
        models,
        stages,
    })
}

fn stage_tables(value: Option<Value>) -> Result<Vec<Value>, RecipeError> {
    match value {
        None => Err(missing("stage", Where::default())),
        Some(Value::Array(stages)) => Ok(stages),
        Some(other) => Err(RecipeError::WrongType {
            key: "stage".into(),
            at: Box::default(),
            expected: "a list of tables (`[[stage]]`)".into(),
            found: format!("a {}", other.type_str()),
        }),
    }
}

/// Reads one `[[stage]]` table.
fn read_stage(idx: usize, value: Value) -> Result<Stage, RecipeError> {
    let place = Where { stage: None, tables: vec![format!("stage.{idx}")] };
    let Value::Table(mut table) = value else {
        return Err(RecipeError::WrongType {
            key: idx.to_string(),
            at: Box::new(Where { stage: None, tables: vec!["stage".into()] }),
            expected: "a table".into(),
            found: format!("a {}", value.type_str()),
        });
    };
    let name: String = match table.remove("name") {
        Some(value) => under("name", value)?,
        None => return Err(missing("name", place)),
    };
    let at = || Where { stage: Some(name.clone()), tables: Vec::new() };
    let kind = table.get("kind").ok_or_else(|| missing("kind", at()))?;
    let row = Kind::ALL.iter().find(|(kind_name, _)| kind.as_str() == Some(kind_name));
    for key in row.map_or(&[] as &[_], |(_, required)| *required) {
        if !table.contains_key(*key) {
            // A mistyped key explains a missing one better than its absence does.
            strict::read::<Kind>(Value::Table(table.clone()), Some(&name))?;
            return Err(missing(key, at()));
        }
    }
    let kind = strict::read(Value::Table(table), Some(&name))?;
    Ok(Stage { name, kind })
}

fn missing(key: &str, at: Where) -> RecipeError {
    RecipeError::MissingKey { key: key.to_owned(), at: Box::new(at) }
}

/// Reads a value of a top-level key, so that errors below it name the key.
fn under<T: serde::de::DeserializeOwned>(key: &str, value: Value) -> Result<T, RecipeError> {
    let mut table = Table::new();
    table.insert(key.to_owned(), value);
    let mut read: BTreeMap<String, T> = strict::read(Value::Table(table), None)?;
    Ok(read.remove(key).expect("the map holds the one key that was put in"))
}

fn optional<T: serde::de::DeserializeOwned + Default>(
    table: &mut Table,
    key: &str,
) -> Result<T, RecipeError> {
    table.remove(key).map_or(Ok(T::default()), |value| under(key, value))
}
