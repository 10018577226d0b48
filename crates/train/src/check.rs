//! What can be known to fail before a run begins: models that cannot be built, sequences longer
//! than their positions, checkpoints that are not there.

use crate::error::Error;
use crate::recipe::{Kind, Recipe, Stage, Template, is_path};
use crate::stage::expand_home;
use fathom_model::{Config, read_config};
use fathom_text::{Tokenizer, special};

/// Vocabulary assumed where no tokenizer stage says how large it will be.
const ASSUMED_VOCAB: usize = 1 << 16;

/// Checks every model and every stage that uses one. Touches no run directory.
///
/// Errors: `Model`, naming the model (or the path of the checkpoint) and the word that is wrong;
/// `Unfit` where a stage starts from a directory without a model.
pub(crate) fn check(recipe: &Recipe) -> Result<(), Error> {
    for model in recipe.models.keys() {
        config_of(recipe, model)?;
    }
    recipe.stages.iter().try_for_each(|stage| check_stage(recipe, stage))
}

fn check_stage(recipe: &Recipe, stage: &Stage) -> Result<(), Error> {
    let (from, n_tokens) = match &stage.kind {
        Kind::Pretrain(settings) => (None, settings.sequence_tokens),
        Kind::Sft(settings) => (Some(&settings.from), settings.max_tokens),
        Kind::Grpo(settings) => (Some(&settings.from), settings.max_new_tokens),
        Kind::Rejection(settings) => (Some(&settings.from), settings.max_new_tokens),
        Kind::Tokenizer(_) | Kind::Evaluate(_) | Kind::Ablation(_) => return Ok(()),
    };
    let (name, config) = match (from.filter(|from| is_path(from)), recipe.model_of(&stage.name)) {
        (Some(path), _) => {
            let dir = expand_home(path);
            if !dir.join("config.json").is_file() {
                return Err(no_model(&stage.name, path));
            }
            check_chat_tokens(stage, path)?;
            let config = read_config(&dir);
            (path.as_str(), config.map_err(|source| Error::Model { what: path.clone(), source })?)
        }
        (None, Some(model)) => (model, config_of(recipe, model)?),
        (None, None) => return Ok(()),
    };
    config.check_sequence_tokens(n_tokens).map_err(|error| Error::Model {
        what: format!("{name}` in stage `{}", stage.name),
        source: fathom_model::Error::Config(error),
    })
}

/// Whether the tokenizer beside a checkpoint has what the chat template of a stage needs. That it
/// can be read at all is the stage's own concern.
fn check_chat_tokens(stage: &Stage, path: &str) -> Result<(), Error> {
    let uses_chat = match &stage.kind {
        Kind::Sft(_) => true,
        Kind::Grpo(settings) => settings.template == Template::Chat,
        Kind::Rejection(settings) => settings.template == Template::Chat,
        _ => false,
    };
    let tokenizer = Tokenizer::open(expand_home(path).join("tokenizer.json"));
    let Some(tokenizer) = tokenizer.ok().filter(|_| uses_chat) else { return Ok(()) };
    let missing = special::CHAT.iter().find(|token| tokenizer.special_id(token).is_err());
    missing.map_or(Ok(()), |token| {
        Err(Error::Unfit {
            stage: stage.name.clone(),
            found: format!("no token `{token}` in the tokenizer of `{path}`"),
            expected: "the chat tokens of DeepSeek-R1".into(),
            hint: Some(
                "start from a model with this chat format: one that Fathom trained, or a \
                 DeepSeek-R1 model"
                    .into(),
            ),
        })
    })
}

fn no_model(stage: &str, path: &str) -> Error {
    Error::Unfit {
        stage: stage.into(),
        found: format!("no `config.json` in `{path}`"),
        expected: "the directory of a model to start from".into(),
        hint: Some(format!(
            "name one with `--set {stage}.from=DIR`, the path beginning with `/`, `./` or `~/`"
        )),
    }
}

/// The configuration of a model of the recipe, with the vocabulary it will have at most.
fn config_of(recipe: &Recipe, model: &str) -> Result<Config, Error> {
    let vocab_size = recipe.stages.iter().find_map(|stage| match &stage.kind {
        Kind::Tokenizer(settings) => Some(settings.vocab_size),
        _ => None,
    });
    let mut words = recipe.models.get(model).cloned().unwrap_or_default();
    if let Some(words) = words.as_object_mut() {
        words.entry("vocab_size").or_insert(vocab_size.unwrap_or(ASSUMED_VOCAB).into());
    }
    Config::from_recipe(&words).map_err(|error| Error::Model {
        what: model.to_owned(),
        source: fathom_model::Error::Config(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::BUILT_IN;

    fn outcome(recipe: &str, sets: &[&str]) -> Result<(), String> {
        let recipe = BUILT_IN.iter().find(|built_in| built_in.name == recipe).unwrap();
        let sets: Vec<String> = sets.iter().map(|set| set.to_string()).collect();
        let recipe = Recipe::parse(recipe.text, &sets).map_err(|error| error.to_string())?;
        check(&recipe).map_err(|error| error.to_string())
    }

    #[test]
    fn the_built_in_recipes_can_work() {
        assert_eq!(outcome("r1-tiny", &[]), Ok(()));
        assert_eq!(outcome("code-small", &[]), Ok(()));
    }

    #[test]
    fn values_that_cannot_work_are_found_before_anything_is_done() {
        let cases = [
            ("tiny-v3.num_experts_per_tok=99", "num_experts_per_tok"),
            ("tiny-qwen.num_key_value_heads=7", "num_key_value_heads"),
            ("tiny-v3.hidden_sizes=3", "hidden_sizes"),
            ("base.sequence_tokens=100000", "max_position_embeddings"),
            ("r1-sft.max_tokens=100000", "stage `r1-sft`"),
            ("r1-zero.max_new_tokens=100000", "stage `r1-zero`"),
            ("r1-sft.from=./nowhere", "--set r1-sft.from=DIR"),
        ];
        for (set, word) in cases {
            let error = outcome("r1-tiny", &[set]).expect_err(set);
            assert!(error.contains(word), "{set}: {error}");
        }
    }
}
