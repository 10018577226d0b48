//! What holds of the readers of configurations and reference values for any bytes: `Ok`, or an
//! error that says what is wrong; nothing panics, memory is bounded. Run on mutations here and by
//! the fuzzer (`fuzz/`).

use std::path::Path;

use fathom_checkpoint::gguf::{Array, Gguf, NewTensor, Value, write};
use fathom_kernels::quant::Format;
use fathom_model::cost::{AttentionForm, cache_elements_per_token};
use fathom_model::cost::{forward_flops_per_token, parameters};
use fathom_model::gguf::{GgufTensorData, Vocabulary, config_with_assumptions, metadata, read};
use fathom_model::names::tensors;
use fathom_model::verify::Golden;
use fathom_model::{Config, Error};

use crate::allocation::{bounded, clear};

/// What a reader may hold for each byte of its file.
const TIMES: u64 = 64;
/// And for messages and lists of its own.
const FLOOR_BYTES: u64 = 256 << 10;

/// A configuration that is accepted can be computed with, and is the same after it was written.
pub(crate) fn config_json(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match bounded(bytes, TIMES, FLOOR_BYTES, || Config::from_text(&text)) {
        Ok(config) => {
            usable(&config);
            let again = Config::from_json(&config.to_json());
            assert_eq!(again.as_ref().map_err(ToString::to_string), Ok(&config));
        }
        Err(error) => clear(&error.to_string(), ""),
    }
    if let Ok(value) = serde_json::from_slice(bytes) {
        let base = Config::from_text(CONFIGS[0]).expect("a seed");
        for result in [Config::from_recipe(&value), Config::from_recipe_over(&base, &value)] {
            result.map_or_else(|error| clear(&error.to_string(), ""), |config| usable(&config));
        }
    }
}

fn is_small(config: &Config) -> bool {
    (12 + 3 * config.n_routed_experts.unwrap_or(0)) * config.num_hidden_layers < 2000
}

/// Totals fit their types, and rotations are numbers.
fn usable(config: &Config) {
    // Millions of experts are allowed, but their list takes its time.
    if is_small(config) {
        let counted = parameters(config);
        assert!(counted.active <= counted.total);
        for form in [AttentionForm::Expanded, AttentionForm::Absorbed] {
            let _ = forward_flops_per_token(config, 1 << 30, form);
        }
    }
    let _ = cache_elements_per_token(config);
    assert!(config.softmax_scale().is_finite() && config.softmax_scale() > 0.0);
    let rope = config.rope();
    assert!(rope.cos_sin_factor().is_finite());
    let frequencies = rope.inverse_frequencies();
    assert_eq!(frequencies.len(), rope.dim / 2);
    assert!(frequencies.iter().all(|f| f.is_finite()), "{config:?}");
}

const CONFIGS: [&str; 4] = [
    r#"{"model_type":"llama","architectures":["LlamaForCausalLM"],"vocab_size":32,"hidden_size":16,"intermediate_size":24,"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"max_position_embeddings":64,"rms_norm_eps":1e-6,"rope_theta":10000.0,"rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":32},"eos_token_id":[1,2],"bos_token_id":0,"torch_dtype":"bfloat16","hidden_act":"silu"}"#,
    r#"{"model_type":"qwen2","vocab_size":32,"hidden_size":16,"intermediate_size":24,"num_hidden_layers":2,"num_attention_heads":4,"max_position_embeddings":64,"tie_word_embeddings":true,"use_sliding_window":false,"sliding_window":64,"rope_scaling":{"type":"linear","factor":4.0}}"#,
    r#"{"model_type":"deepseek","vocab_size":32,"hidden_size":16,"intermediate_size":24,"num_hidden_layers":3,"num_attention_heads":4,"max_position_embeddings":64,"n_routed_experts":8,"n_shared_experts":2,"moe_intermediate_size":8,"num_experts_per_tok":2,"first_k_dense_replace":1,"norm_topk_prob":false}"#,
    r#"{"model_type":"deepseek_v3","vocab_size":32,"hidden_size":16,"intermediate_size":24,"num_hidden_layers":3,"num_attention_heads":4,"max_position_embeddings":64,"q_lora_rank":8,"kv_lora_rank":8,"qk_nope_head_dim":4,"qk_rope_head_dim":4,"v_head_dim":4,"n_routed_experts":8,"n_shared_experts":1,"moe_intermediate_size":8,"num_experts_per_tok":2,"n_group":4,"topk_group":2,"topk_method":"noaux_tc","scoring_func":"sigmoid","norm_topk_prob":true,"routed_scaling_factor":2.5,"first_k_dense_replace":1,"num_nextn_predict_layers":1,"rope_scaling":{"type":"yarn","factor":40,"original_max_position_embeddings":32,"beta_fast":32,"beta_slow":1,"mscale":1.0,"mscale_all_dim":1.0},"quantization_config":{"quant_method":"fp8","fmt":"e4m3","activation_scheme":"dynamic","weight_block_size":[128,128]}}"#,
];

/// Seeds of [`config_json`]; the last two hold sizes and scalings that once passed the checks and
/// then overflowed.
pub(crate) fn config_json_seeds() -> Vec<Vec<u8>> {
    let wide = CONFIGS[0]
        .replace(
            "\"num_attention_heads\":4",
            "\"num_attention_heads\":1000000,\"head_dim\":1000000",
        )
        .replace("\"num_key_value_heads\":2", "\"num_key_value_heads\":1000000")
        .replace("\"num_hidden_layers\":2", "\"num_hidden_layers\":100");
    let steep = CONFIGS[3]
        .replace("\"beta_fast\":32,\"beta_slow\":1,", "\"beta_fast\":1e-308,\"beta_slow\":1e-308,")
        .replace(
            "\"mscale\":1.0,\"mscale_all_dim\":1.0",
            "\"mscale\":1e308,\"mscale_all_dim\":1e308",
        );
    CONFIGS
        .iter()
        .map(|text| text.to_string())
        .chain([wide, steep])
        .map(String::into_bytes)
        .collect()
}

pub(crate) const CONFIG_WORDS: &[&[u8]] = &[
    b"\"model_type\":\"deepseek_v2\",",
    b"\"head_dim\":8,",
    b"\"rope_parameters\":{\"rope_type\":\"yarn\",\"factor\":1e300,\"rope_theta\":1.5},",
    b"\"topk_method\":\"greedy\",",
    b"\"scoring_func\":\"softmax\",",
    b"\"vocab_size\":1000000,",
    b"\"hidden_size\":1000000,",
    b"\"num_hidden_layers\":10000,",
    b"\"num_attention_heads\":1000000,",
    b"\"intermediate_size\":1000000,",
    b"\"max_position_embeddings\":1073741824,",
    b"\"kv_lora_rank\":1000000,",
    b"\"rope_theta\":1e308,",
    b"\"mscale\":1e308,",
    b"\"beta_slow\":1e-308,",
];

/// A GGUF that opens has a configuration that can be computed with, or says what it lacks.
pub(crate) fn gguf(bytes: &[u8]) {
    let Ok(file) = Gguf::from_bytes("dir/x.gguf", bytes.to_vec()) else { return };
    match bounded(bytes, TIMES, FLOOR_BYTES, || config_with_assumptions(&file)) {
        Ok((config, assumptions)) => {
            usable(&config);
            assert!(assumptions.iter().all(|assumption| !assumption.to_string().is_empty()));
            if is_small(&config) {
                bounded(bytes, TIMES, 4 << 20, || read_all(&file, &config));
            }
        }
        Err(error) => clear(&error.to_string(), "dir/x.gguf"),
    }
}

/// Every tensor that the configuration asks for is there in its shape, or refused.
fn read_all(file: &Gguf, config: &Config) {
    for spec in tensors(config) {
        match read(file, config, &spec) {
            Ok(GgufTensorData::Vector(values)) => assert_eq!(values.len(), spec.n_elements()),
            Ok(GgufTensorData::Matrix(_)) => {}
            Err(error) => clear(&error.to_string(), ""),
        }
    }
}

/// Seeds of [`gguf`]: a model of every architecture, two with tensors.
pub(crate) fn gguf_seeds() -> Vec<Vec<u8>> {
    let vocabulary = Vocabulary {
        pre: "deepseek-v3".into(),
        tokens: vec!["a".into(), "b".into(), "ab".into()],
        token_types: vec![1, 1, 3],
        merges: vec!["a b".into()],
        add_bos: true,
        chat_template: Some("{{ messages }}".into()),
    };
    let mut seeds = Vec::new();
    for (at, text) in CONFIGS.iter().enumerate() {
        let config = Config::from_text(text).expect("a seed");
        let mut words = metadata(&config, "seed", Some(&vocabulary), Format::Q8_0);
        if at == 2 {
            let heads = Value::Array(Array::I32(vec![4, 4, 4]));
            words.push(("deepseek.attention.head_count_kv_list".into(), heads));
        }
        let shapes: &[(&str, &[usize])] = match at {
            0 => &[
                ("token_embd.weight", &[32, 16]),
                ("rope_freqs.weight", &[2]),
                ("blk.0.attn_norm.weight", &[16]),
                ("blk.0.attn_q.weight", &[16, 16]),
            ],
            3 => &[
                ("blk.1.exp_probs_b.bias", &[8]),
                ("blk.3.nextn.eh_proj.weight", &[2]),
                ("blk.0.attn_k_b.weight", &[4, 8, 4]),
                ("blk.0.attn_v_b.weight", &[4, 4, 8]),
                ("blk.1.ffn_up_exps.weight", &[8, 8, 16]),
            ],
            _ => &[],
        };
        let tensors = shapes.iter().map(|(name, shape)| {
            let ones: Vec<u8> =
                (0..shape.iter().product()).flat_map(|_: usize| 1f32.to_le_bytes()).collect();
            NewTensor::<Error>::new(*name, shape, Format::F32, move |sink| Ok(sink.put(&ones)?))
        });
        let path = std::env::temp_dir().join(format!("fathom-seed-{}-{at}", std::process::id()));
        write(&path, &words, tensors).expect("the folder of temporary files takes one more");
        seeds.push(std::fs::read(&path).expect("just written"));
        let _ = std::fs::remove_file(&path);
    }
    seeds
}

/// Reference values.
pub(crate) fn golden_json(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let path = Path::new("dir/golden.json");
    match bounded(bytes, TIMES, FLOOR_BYTES, || Golden::from_text(path, &text)) {
        Ok(golden) => assert!(!golden.cases.is_empty()),
        Err(error) => clear(&error.to_string(), "dir/golden.json"),
    }
}

/// Seeds of [`golden_json`].
pub(crate) fn golden_json_seeds() -> Vec<Vec<u8>> {
    vec![
        br#"{"source":"x","cases":[{"ids":[1,2],"logits":[[0.5,-1e3],[1,2]],"greedy":[1],"mtp_logits":[[1,2],[3,4]]}]}"#.to_vec(),
        br#"{"cases":[{"ids":[],"logits":[]},{"ids":[0],"logits":[[]],"mtp_logits":null}]}"#.to_vec(),
    ]
}
