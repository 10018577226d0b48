//! Recipes: a TOML file that names the stages of a training run and every number in them.
//!
//! `Recipe::load` reads a file or a built-in recipe, applies `--set` assignments, refuses what it
//! does not know (naming the nearest key it does) and checks that every stage can work.

mod built_in;
mod error;
mod nearest;
mod overrides;
mod parse;
mod settings;
mod stage;
mod strict;
mod validate;

#[cfg(test)]
mod tests;

pub use built_in::{BUILT_IN, BuiltIn};
pub use error::{RecipeError, Where};
pub use nearest::nearest;
pub use parse::{Difference, Recipe, is_path};
pub use settings::{
    FollowMtp, MOST_MTP_TOKENS, Mix, Moments, Optimizer, Precision, Questions, RewardWeight,
    Sources, Tagged, Task, Template,
};
pub use stage::{
    Ablation, Count, Evaluate, FileExamples, Grpo, GrpoLoss, Kind, Pretrain, Rejection, Sft,
    SftSource, Stage, StageSamples, Tokenizer,
};
