//! Models in GGUF files: configurations and names of every preset, golden checkpoints exported and
//! computed again, the metadata of older files, and the public vocabulary files.

use std::path::{Path, PathBuf};

use fathom_checkpoint::gguf::{Array, Gguf, NewTensor, Value, write};
use fathom_kernels::quant::Format;
use fathom_model::config::{Family, RopeScaling};
use fathom_model::gguf::{
    Assumption, ExportSource, GgufPlace, GgufTensorData, Vocabulary, config,
    config_with_assumptions, export, find, metadata, places, read, stored_tensors, unknown,
};
use fathom_model::names::{self, TensorSpec};
use fathom_model::preset::{self, PRESETS};
use fathom_model::survey::survey;
use fathom_model::{
    Config, Error, Model, PackedRows, Precision, Rows, Source, export_source, read_config,
};
use fathom_tensor::{Tape, op};

/// A file of these metadata and tensors of zeros.
fn file(words: &[(String, Value)], tensors: &[(String, Vec<usize>)]) -> Gguf {
    let dir = std::env::temp_dir();
    static N: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let n = N.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = dir.join(format!("fathom-gguf-{}-{n}.gguf", std::process::id()));
    let tensors = tensors.iter().map(|(name, shape)| {
        let bytes = vec![0; 4 * shape.iter().product::<usize>()];
        NewTensor::<Error>::new(name, shape, Format::F32, move |sink| Ok(sink.put(&bytes)?))
    });
    write(&path, words, tensors).unwrap();
    let gguf = Gguf::from_bytes(path.clone(), std::fs::read(&path).unwrap()).unwrap();
    std::fs::remove_file(path).unwrap();
    gguf
}

/// A head and as many norms, so that a number of layers is believed.
fn enough(n_layers: usize) -> Vec<(String, Vec<usize>)> {
    let norms = (0..n_layers).map(|layer| (format!("blk.{layer}.attn_norm.weight"), vec![1]));
    norms.chain([("output.weight".to_owned(), vec![1])]).collect()
}

/// What a file cannot say, as a configuration read from one has it.
fn as_read(config: Config) -> Config {
    Config {
        rope_interleave: config.model_type != Family::Qwen2,
        initializer_range: 0.02,
        quantization_config: None,
        sliding_window: None,
        aux_loss_alpha: if config.n_routed_experts.is_some() { 0.001 } else { 0.0 },
        ..config
    }
}

#[test]
fn every_preset_comes_back_from_its_metadata() {
    for preset in PRESETS {
        let wanted = (preset.config)();
        let words = metadata(&wanted, preset.name, None, Format::Bf16);
        let llama3 = matches!(wanted.rope_scaling, Some(RopeScaling::Llama3 { .. }));
        let (found, assumed) = config_with_assumptions(&file(&words, &[])).unwrap();
        let wanted = as_read(wanted);
        // This scaling is a tensor; the test of golden checkpoints reads it back.
        let wanted = if llama3 { Config { rope_scaling: None, ..wanted } } else { wanted };
        assert_eq!(found, wanted, "{}", preset.name);
        assert!(assumed.iter().all(|a| *a == Assumption::EqualMscale), "{assumed:?}");
    }
}

#[test]
fn every_tensor_of_every_preset_has_its_place() {
    for preset in PRESETS {
        let specs = names::tensors(&(preset.config)());
        let mut first: Vec<GgufPlace> = specs.iter().map(|spec| places(spec)[0].clone()).collect();
        assert_eq!(first.len(), specs.len());
        first.sort_by_key(|place| format!("{place:?}"));
        first.dedup();
        assert_eq!(first.len(), specs.len(), "{}: two tensors at one place", preset.name);
    }
}

#[test]
fn names_are_those_of_llama_cpp() {
    let specs = names::tensors(&preset::v3());
    let place = |name: &str| places(specs.iter().find(|s| s.name == name).unwrap());
    let whole = |name: &str| GgufPlace::Whole { name: name.to_owned() };
    assert_eq!(place("model.layers.0.mlp.down_proj.weight"), [whole("blk.0.ffn_down.weight")]);
    assert_eq!(place("model.layers.7.mlp.gate.weight"), [whole("blk.7.ffn_gate_inp.weight")]);
    let expert = place("model.layers.7.mlp.experts.255.up_proj.weight");
    let slice = GgufPlace::Slice { name: "blk.7.ffn_up_exps.weight".to_owned(), expert: 255 };
    assert_eq!(expert, [slice, whole("blk.7.ffn_up.255.weight")]);
    let shared = place("model.layers.7.mlp.shared_experts.gate_proj.weight");
    assert_eq!(shared, [whole("blk.7.ffn_gate_shexp.weight")]);
    let bias = place("model.layers.7.mlp.gate.e_score_correction_bias");
    assert_eq!(bias[0], whole("blk.7.exp_probs_b.bias"));
    let norm = place("model.layers.61.shared_head.norm.weight");
    assert_eq!(norm, [whole("blk.61.nextn.shared_head_norm.weight")]);
    let kv_a = place("model.layers.2.self_attn.kv_a_layernorm.weight");
    assert_eq!(kv_a, [whole("blk.2.attn_kv_a_norm.weight")]);
    let specs = names::tensors(&preset::distill_qwen_1_5b());
    let bias = specs.iter().find(|s| s.name == "model.layers.3.self_attn.q_proj.bias").unwrap();
    assert_eq!(places(bias), [whole("blk.3.attn_q.bias")]);
}

/// The metadata of `config` with some keys taken away and others put in.
fn changed(config: &Config, without: &[&str], with: &[(&str, Value)]) -> Vec<(String, Value)> {
    let mut words = metadata(config, "old", None, Format::F16);
    words.retain(|(key, _)| !without.iter().any(|end| key.ends_with(end)));
    for (key, value) in with {
        words.retain(|(old, _)| old != key);
        words.push(((*key).to_owned(), value.clone()));
    }
    words
}

#[test]
fn older_files_are_understood() {
    // V2 as converted in 2024: sizes of a head, no gate, no groups.
    let without = ["_mla", "gating_func", "group_count", "group_used_count", "weights_norm"];
    let head = [
        ("deepseek2.attention.key_length", Value::U32(192)),
        ("deepseek2.attention.value_length", Value::U32(128)),
        ("deepseek2.attention.head_count_kv", Value::U32(128)),
    ];
    let words = changed(&preset::v2(), &without, &head);
    let (found, assumed) = config_with_assumptions(&file(&words, &[])).unwrap();
    assert_eq!(Config { torch_dtype: preset::v2().torch_dtype, ..found }, as_read(preset::v2()));
    let groups = Assumption::Groups { n_experts: 160, n_group: 8, topk_group: 3 };
    assert_eq!(assumed, [Assumption::SoftmaxGate, groups, Assumption::EqualMscale]);
    // V3 without a word about its gate, but with the biases of its routers.
    let small = Config { num_nextn_predict_layers: 0, ..preset::v3() };
    let words = changed(&small, &without, &head);
    let mut tensors = enough(61);
    tensors.push(("blk.3.exp_probs_b.bias".to_owned(), vec![256]));
    tensors.push(("blk.3.ffn_gate_inp.weight".to_owned(), vec![256, 1]));
    let gguf = file(&words, &tensors);
    let (found, assumed) = config_with_assumptions(&gguf).unwrap();
    assert_eq!(Config { torch_dtype: small.torch_dtype, ..found }, as_read(small));
    let groups = Assumption::Groups { n_experts: 256, n_group: 8, topk_group: 4 };
    assert_eq!(assumed[..3], [Assumption::SigmoidGate, Assumption::NormalisedWeights, groups]);
    // MTP layers that are announced only.
    let words = changed(&preset::v3(), &[], &[]);
    let mut tensors = enough(62);
    tensors.push(("blk.3.ffn_gate_inp.weight".to_owned(), vec![256, 1]));
    let gguf = file(&words, &tensors);
    let (found, assumed) = config_with_assumptions(&gguf).unwrap();
    assert_eq!((found.num_hidden_layers, found.num_nextn_predict_layers), (61, 0));
    assert!(assumed.contains(&Assumption::NoMtp { announced: 1 }));
    // Qwen2 without a size of the vocabulary; one end more for chats.
    let tokens = Value::Array(Array::String(vec!["a".to_owned(); 151936]));
    let with = [("tokenizer.ggml.tokens", tokens), ("tokenizer.ggml.eot_token_id", Value::U32(7))];
    let words = changed(&preset::distill_qwen_1_5b(), &["vocab_size", ".key_length"], &with);
    let found = config(&file(&words, &[])).unwrap();
    assert_eq!((found.vocab_size, found.head_dim), (151936, 128));
    assert_eq!(found.eos_token_id, [151643, 7]);
}

#[test]
fn what_we_cannot_compute_is_refused_by_name() {
    let refused = |config: &Config, with: &[(&str, Value)], part: &str| {
        let result = fathom_model::gguf::config(&file(&changed(config, &[], with), &[]));
        let text = result.unwrap_err().to_string();
        assert!(text.contains(part), "{text:?} lacks {part:?}");
    };
    let text = |s: &str| Value::String(s.to_owned());
    let llama = preset::llm_7b();
    refused(&llama, &[("general.architecture", text("gemma"))], "known are llama, qwen2");
    refused(&llama, &[("llama.expert_count", Value::U32(8))], "`llama.expert_count` = 8");
    refused(&llama, &[("llama.rope.dimension_count", Value::U32(64))], "dimension_count` = 64");
    refused(&llama, &[("llama.rope.scaling.type", text("longrope"))], "known are `none`");
    refused(&llama, &[("llama.rope.scaling.type", text("yarn"))], "no key `llama.rope.scaling.f");
    refused(&llama, &[("llama.block_count", text("x"))], "`llama.block_count` is string \"x\"");
    refused(&llama, &[("llama.block_count", Value::U32(0))], "`num_hidden_layers` must lie");
    refused(&llama, &[("llama.embedding_length", Value::U32(u32::MAX))], "`hidden_size`");
    let v3 = preset::v3();
    refused(&v3, &[("deepseek2.expert_gating_func", Value::U32(4))], "(sigmoid)");
    refused(&v3, &[("deepseek2.rope.dimension_count", Value::U32(500))], "a head holds");
    refused(&v3, &[("deepseek2.nextn_predict_layers", Value::U32(99))], "among the blocks");
    let words = metadata(&llama, "x", None, Format::F32);
    let mut tensors = enough(30);
    tensors.push(("rope_freqs.weight".to_owned(), vec![64]));
    let table = file(&words, &tensors);
    let error = config(&table).unwrap_err().to_string();
    assert!(error.contains("`rope_freqs.weight` = [0.0, 0.0"), "{error}");
    // Numbers that no tensors stand behind.
    let error = config(&file(&words, &enough(20))).unwrap_err().to_string();
    assert!(error.contains("`llama.block_count` = 30"), "{error}");
    let words = changed(&v3, &[], &[("deepseek2.expert_count", Value::U32(100_000))]);
    let error = config(&file(&words, &enough(62))).unwrap_err().to_string();
    assert!(error.contains("`deepseek2.expert_count` = 100000"), "{error}");
}

fn shared() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared"))
}

#[test]
fn public_vocabulary_files_give_the_released_configurations() {
    let files = [
        ("ggml-vocab-deepseek-llm.gguf", preset::llm_7b()),
        ("ggml-vocab-deepseek-coder.gguf", preset::coder_6_7b()),
    ];
    for (name, wanted) in files {
        let path = shared().join("data/tokenizers").join(name);
        if !path.exists() {
            eprintln!("skipped: no {}", path.display());
            continue;
        }
        let found = config(&Gguf::open(path).unwrap()).unwrap();
        let wanted = Config { torch_dtype: found.torch_dtype, ..as_read(wanted) };
        assert_eq!(found, wanted, "{name}");
    }
}

/// The text checkpoints beside this crate and in the shared folder, with reference logits.
fn checkpoints() -> Vec<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden");
    let mut found = Vec::new();
    for dir in [own, shared().join("golden")] {
        let Ok(entries) = std::fs::read_dir(&dir) else {
            eprintln!("skipped: no folder {}", dir.display());
            continue;
        };
        let dirs = entries.flatten().map(|entry| entry.path());
        found.extend(dirs.filter(|dir| dir.join("golden.json").exists()));
    }
    found.sort();
    found.retain(|dir| read_config(dir).is_ok()); // vision models are not read yet
    found
}

/// A vocabulary of single letters and the like, so that other programs can open the file.
fn letters() -> Vocabulary {
    Vocabulary {
        pre: "deepseek-llm".to_owned(),
        tokens: (b'!'..=b'~').take(48).map(|byte| char::from(byte).to_string()).collect(),
        merges: vec!["! !".to_owned()],
        chat_template: Some("{{ messages }}".to_owned()),
        ..Vocabulary::default()
    }
}

/// Exports a directory; `None` where GGUF has no words for it.
fn exported(dir: &Path, format: Format, out: &Path) -> Option<Gguf> {
    let source = Source::open(dir).unwrap();
    let config = read_config(dir).unwrap();
    let give = |spec: &TensorSpec| export_source(&source, spec);
    let name = dir.file_name().unwrap().to_string_lossy();
    // Folders beside this crate and in the shared folder have equal names.
    let out = out.join(if dir.starts_with(shared()) { "shared" } else { "own" });
    std::fs::create_dir_all(&out).unwrap();
    let prefix = out.join(format!("{name}-{}", format.name()));
    match export(&config, &name, Some(&letters()), format, &give, prefix, 40_000) {
        Ok(paths) => Some(Gguf::open(&paths[0]).unwrap()),
        Err(error @ Error::Config(_)) => {
            assert!(error.to_string().contains("gguf has one word for both"), "{error}");
            None
        }
        Err(error) => panic!("{name}: {error}"),
    }
}

fn model_of(gguf: &Gguf) -> Model {
    let config = config(gguf).unwrap();
    let mut model = Model::build(config.clone(), |_, spec| {
        Ok(match read(gguf, &config, spec)? {
            GgufTensorData::Matrix(matrix) => matrix.to_f32(),
            GgufTensorData::Vector(values) => values,
        })
    })
    .unwrap();
    model.pack(Precision::F32, false);
    model
}

/// Largest and mean distance to the reference logits over all cases.
fn errors(model: &Model, dir: &Path) -> [f32; 2] {
    let text = std::fs::read_to_string(dir.join("golden.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut errors = Vec::new();
    for case in golden["cases"].as_array().unwrap() {
        let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
        let want: Vec<Vec<f32>> = serde_json::from_value(case["logits"].clone()).unwrap();
        let rows = PackedRows::sequence(&ids);
        let hidden = model.forward(&Tape::forgetting(), Rows::Packed(&rows), None).hidden;
        let got = op::logits(&hidden, model.head());
        let pairs = got.data().iter().zip(want.iter().flatten());
        errors.extend(pairs.map(|(g, w)| (g - w).abs()));
    }
    let mean = errors.iter().sum::<f32>() / errors.len() as f32;
    [errors.into_iter().fold(0.0, f32::max), mean]
}

/// The exports stay in the folder that `FATHOM_GGUF_OUT` names, for `golden/gguf_file/with_llama_cpp.py`.
#[test]
fn golden_checkpoints_exported_and_read_again_compute_the_same() {
    let kept = std::env::var_os("FATHOM_GGUF_OUT").map(PathBuf::from);
    let own = std::env::temp_dir().join(format!("fathom-gguf-golden-{}", std::process::id()));
    let out = kept.clone().unwrap_or(own);
    std::fs::create_dir_all(&out).unwrap();
    for dir in checkpoints() {
        let original = read_config(&dir).unwrap();
        // Eight bits choose another expert now and then, which moves a row but not the mean.
        let bounds = [(Format::F32, 1e-3, 1e-4), (Format::Q8_0, f32::INFINITY, 0.2)];
        for (format, worst_bound, mean_bound) in bounds {
            let Some(gguf) = exported(&dir, format, &out) else { continue };
            let found = config(&gguf).unwrap();
            let wanted = Config { torch_dtype: found.torch_dtype, ..as_read(original.clone()) };
            // Several original lengths can mean the same frequencies.
            let pairs = found.rope().inverse_frequencies().into_iter();
            let mut pairs = pairs.zip(original.rope().inverse_frequencies());
            assert!(pairs.all(|(a, b)| (a / b - 1.0).abs() < 1e-4));
            let wanted = match found.rope_scaling {
                llama3 @ Some(RopeScaling::Llama3 { .. }) => {
                    Config { rope_scaling: llama3, ..wanted }
                }
                _ => wanted,
            };
            assert_eq!(found, wanted);
            assert_eq!(unknown(&gguf, &found), Vec::<String>::new());
            let survey = survey(&found, &stored_tensors(&gguf, &found));
            assert!(survey.is_complete() && survey.unknown.is_empty(), "{survey:?}");
            let [worst, mean] = errors(&model_of(&gguf), &dir);
            let name = dir.file_name().unwrap().display();
            println!("{name} {}: worst error {worst:.1e}, mean {mean:.1e}", format.name());
            assert!(worst < worst_bound && mean < mean_bound, "{name} {}", format.name());
        }
    }
    if kept.is_none() {
        std::fs::remove_dir_all(out).unwrap();
    }
}

#[test]
fn a_model_file_with_any_byte_of_its_header_changed_never_panics() {
    let wanted = Config {
        hidden_size: 8,
        intermediate_size: 8,
        moe_intermediate_size: 8,
        num_hidden_layers: 2,
        first_k_dense_replace: 1,
        num_attention_heads: 2,
        num_key_value_heads: 2,
        vocab_size: 16,
        n_routed_experts: Some(4),
        n_group: 2,
        topk_group: 1,
        num_experts_per_tok: 2,
        q_lora_rank: Some(8),
        kv_lora_rank: Some(8),
        qk_nope_head_dim: 4,
        qk_rope_head_dim: 4,
        head_dim: 4,
        v_head_dim: 4,
        num_nextn_predict_layers: 0,
        pad_token_id: None,
        ..preset::v3()
    };
    let prefix = std::env::temp_dir().join(format!("fathom-gguf-bytes-{}", std::process::id()));
    let give = |spec: &TensorSpec| Ok(ExportSource::F32(vec![1.0; spec.n_elements()]));
    let paths = export(&wanted, "x", None, Format::F32, &give, &prefix, u64::MAX).unwrap();
    let whole = std::fs::read(&paths[0]).unwrap();
    std::fs::remove_file(&paths[0]).unwrap();
    let data = Gguf::from_bytes("x", whole.clone()).unwrap();
    let header = data.tensors().next().unwrap().byte_range().unwrap().start;
    let mut n_read = 0;
    for at in 0..header {
        for change in [1, 0x40, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= change;
            let Ok(gguf) = Gguf::from_bytes("x", bytes) else { continue };
            let Ok(found) = config(&gguf) else { continue };
            let specs = names::tensors(&found);
            n_read += specs.iter().filter(|spec| read(&gguf, &found, spec).is_ok()).count();
            stored_tensors(&gguf, &found);
        }
    }
    assert!(n_read > 1000, "{n_read}");
}

#[test]
fn a_fused_kv_b_and_single_experts_are_found_too() {
    let specs = names::tensors(&preset::v2_lite());
    let spec = |end: &str| specs.iter().find(|spec| spec.name.ends_with(end)).unwrap();
    let names = [
        "blk.0.attn_kv_b.weight",
        "blk.1.ffn_up.3.weight",
        "blk.1.attn_k_b.weight",
        "blk.1.attn_v_b.weight",
        "blk.2.attn_k_b.weight",
    ];
    let gguf = file(&[], &names.map(|name| (name.to_owned(), vec![2])));
    let whole = |name: &str| GgufPlace::Whole { name: name.to_owned() };
    let fused = spec("layers.0.self_attn.kv_b_proj.weight");
    assert_eq!(find(&gguf, fused).unwrap(), whole("blk.0.attn_kv_b.weight"));
    let expert = spec("layers.1.mlp.experts.3.up_proj.weight");
    assert_eq!(find(&gguf, expert).unwrap(), whole("blk.1.ffn_up.3.weight"));
    let split = spec("layers.1.self_attn.kv_b_proj.weight");
    assert!(matches!(find(&gguf, split).unwrap(), GgufPlace::SplitKvB { .. }));
    let half = spec("layers.2.self_attn.kv_b_proj.weight");
    let error = find(&gguf, half).unwrap_err().to_string();
    assert!(error.contains("no tensor `blk.2.attn_kv_b.weight`"), "{error}");
}
