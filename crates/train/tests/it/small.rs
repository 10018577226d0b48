//! A recipe with every kind of stage that ends in seconds.

use fathom_train::progress::{Event, Observer, Step};
use fathom_train::recipe::Recipe;
use std::path::{Path, PathBuf};

/// All stages of R1 on a model of a few thousand parameters.
pub(crate) const RECIPE: &str = r#"
name = "small"
description = "a test"
seed = 3
precision = "bf16"
main_model = "tuned"
task = { kind = "arithmetic" }

[models.m]
model_type = "deepseek_v3"
hidden_size = 32
intermediate_size = 48
moe_intermediate_size = 16
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 2
q_lora_rank = 16
kv_lora_rank = 16
qk_nope_head_dim = 8
qk_rope_head_dim = 8
v_head_dim = 8
first_k_dense_replace = 1
n_routed_experts = 4
n_shared_experts = 1
num_experts_per_tok = 2
n_group = 1
topk_group = 1
norm_topk_prob = true
routed_scaling_factor = 1.0
scoring_func = "sigmoid"
topk_method = "noaux_tc"
num_nextn_predict_layers = 1
max_position_embeddings = 512

[[stage]]
name = "tokenizer"
kind = "tokenizer"
vocab_size = 320
corpus_documents = 200

[[stage]]
name = "base"
kind = "pretrain"
model = "m"
steps = 6
batch_sequences = 4
sequence_tokens = 64
checkpoint_every_steps = 2
optimizer = { learning_rate = 3e-3 }

[[stage]]
name = "zero"
kind = "grpo"
from = "base"
template = "r1-zero"
steps = 3
prompts_per_step = 4
group_size = 4
max_new_tokens = 12
kl_weight = 0.01
reference_reset_steps = 2
mini_batches = 2
samples_every_steps = 1
checkpoint_every_steps = 1
rewards = [{ name = "accuracy" }, { name = "format" }, { name = "language-consistency" }]

[[stage]]
name = "kept"
kind = "rejection"
from = "zero"
prompts = 4
samples_per_prompt = 2
max_new_tokens = 8
general_count = 6

[[stage]]
name = "tuned"
kind = "sft"
from = "base"
epochs = 2
batch_tokens = 512
max_tokens = 256
checkpoint_every_steps = 1
data = [{ kind = "cold-start", count = 20 }, { kind = "samples", stage = "kept" }]

[[stage]]
name = "evaluation"
kind = "evaluate"
models = ["base", "zero", "tuned"]
problems = 6
samples_per_problem = 2
max_new_tokens = 12
"#;

/// The recipe, with changes.
pub(crate) fn recipe(sets: &[&str]) -> Recipe {
    let sets: Vec<String> = sets.iter().map(|set| set.to_string()).collect();
    Recipe::parse(RECIPE, &sets).unwrap()
}

/// An empty folder for one test.
pub(crate) fn folder(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("fathom-train-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    dir
}

/// Stops after a number of steps.
pub(crate) struct StopAfter(pub(crate) usize);

impl Observer for StopAfter {
    fn event(&mut self, event: &Event) {
        if let Event::Step(Step { .. }) = event {
            self.0 = self.0.saturating_sub(1);
        }
    }

    fn wants_stop(&self) -> bool {
        self.0 == 0
    }
}

/// Contents of all files that must not depend on interruptions, by path below `root`.
pub(crate) fn outcome(root: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    collect(root, root, &mut files);
    files.sort();
    files
}

fn collect(root: &Path, dir: &Path, files: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(root, &path, files);
            continue;
        }
        let name = path.strip_prefix(root).unwrap().to_string_lossy().to_string();
        let timed = ["timing.jsonl", "state.json", "results.json", "report.html"];
        if !timed.contains(&name.as_str())
            && !name.starts_with("tensorboard")
            && !name.contains("lock")
        {
            files.push((name, std::fs::read(&path).unwrap()));
        }
    }
}
