//! Running the binary in a folder of its own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// How a call ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// Stdout as one JSON object.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Calls `fathom` in `dir` with nothing on stdin.
pub(crate) fn fathom(dir: &Path, args: &[&str]) -> Ended {
    fathom_reading(dir, args, "")
}

/// Calls `fathom` in `dir` with `input` on stdin.
pub(crate) fn fathom_reading(dir: &Path, args: &[&str], input: &str) -> Ended {
    let mut child = command(dir, args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that ends before it has read all of it closes the pipe.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The call itself, without what the environment of a test could change.
pub(crate) fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fathom"));
    command.args(args).current_dir(dir);
    // No test may ask the internet; those of downloads name a hub of their own.
    command.env("HF_HUB_OFFLINE", "1").env("HF_HOME", dir.join("hub"));
    for name in [
        "HF_HUB_CACHE",
        "HF_ENDPOINT",
        "COLUMNS",
        "CARGO",
        "CARGO_MANIFEST_DIR",
        "FATHOM_API_KEY",
        "FATHOM_CPU",
        "NO_COLOR",
    ] {
        command.env_remove(name);
    }
    command
}

/// An empty folder for one test, below cargo's own.
pub(crate) fn folder(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// One of the project's own golden checkpoints.
pub(crate) fn golden(name: &str) -> String {
    format!("{}/../../golden/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A folder with `small.toml` and its finished run `runs/small`, trained once for all tests.
pub(crate) fn trained() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = folder("trained");
        std::fs::write(dir.join("small.toml"), SMALL).unwrap();
        let ended = fathom(&dir, &["train", "small.toml"]);
        assert_eq!(ended.code, 0, "{ended:?}");
        dir
    })
}

/// The recipe [`SMALL`] with only these stages, and no `main_model`.
pub(crate) fn stages(names: &[&str]) -> String {
    let parts: Vec<&str> = SMALL.split("[[stage]]").collect();
    let kept = parts[1..]
        .iter()
        .filter(|stage| names.iter().any(|name| stage.contains(&format!("\nname = \"{name}\"\n"))));
    let stages: String = kept.map(|stage| format!("[[stage]]{stage}")).collect();
    parts[0].replace("main_model = \"tuned\"\n", "") + &stages
}

/// A reasoning model of a few thousand parameters, in seconds.
pub(crate) const SMALL: &str = r#"
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
corpus_documents = 100

[[stage]]
name = "base"
kind = "pretrain"
model = "m"
steps = 4
batch_sequences = 4
sequence_tokens = 64
checkpoint_every_steps = 2
optimizer = { learning_rate = 3e-3 }

[[stage]]
name = "tuned"
kind = "sft"
from = "base"
epochs = 1
batch_tokens = 512
max_tokens = 256
data = [{ kind = "cold-start", count = 12 }]

[[stage]]
name = "evaluation"
kind = "evaluate"
models = ["base", "tuned"]
problems = 4
samples_per_problem = 2
max_new_tokens = 12
"#;
