//! Claims about reading checkpoints as they are stored, and writing them in other formats.

use fathom_checkpoint::{Dtype, TensorSource, write_directory};
use fathom_kernels::quant::Format;
use fathom_model::{
    Config, Error, LoadOptions, Model, PackedRows, Precision, Source, export_directory, gguf,
};
use fathom_tensor::op;
use serde_json::json;
use std::path::{Path, PathBuf};

const IDS: [u32; 9] = [3, 60, 12, 1, 44, 12, 7, 30, 5];

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let dir = std::env::temp_dir().join(format!("fathom-load-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("out")).unwrap();
        Scratch(dir)
    }

    fn out(&self) -> PathBuf {
        self.0.join("out")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A V3 whose rows are whole blocks of every format, and whose heads cut blocks of 128 × 128.
fn v3() -> Config {
    let text = json!({
        "model_type": "deepseek_v3", "vocab_size": 70, "hidden_size": 256,
        "intermediate_size": 512, "moe_intermediate_size": 256, "num_hidden_layers": 3,
        "num_attention_heads": 2, "num_key_value_heads": 2, "q_lora_rank": 256,
        "kv_lora_rank": 256, "qk_nope_head_dim": 40, "qk_rope_head_dim": 16, "v_head_dim": 128,
        "n_routed_experts": 8, "n_shared_experts": 1, "num_experts_per_tok": 3, "n_group": 4,
        "topk_group": 2, "topk_method": "noaux_tc", "scoring_func": "sigmoid",
        "norm_topk_prob": true, "routed_scaling_factor": 2.5, "first_k_dense_replace": 1,
        "moe_layer_freq": 1, "max_position_embeddings": 128, "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0, "num_nextn_predict_layers": 0, "tie_word_embeddings": false,
        "hidden_act": "silu", "attention_bias": false, "initializer_range": 0.05,
    });
    Config::from_json(&text).unwrap()
}

/// A random model, saved in f32.
fn saved(name: &str) -> (Scratch, Model) {
    saved_of(name, v3())
}

fn saved_of(name: &str, config: Config) -> (Scratch, Model) {
    let scratch = Scratch::new(name);
    let mut model = Model::random(config, 7).unwrap();
    model.save(&scratch.0, fathom_model::config::TorchDtype::Float32).unwrap();
    model.pack(Precision::F32, false);
    (scratch, model)
}

fn load(dir: &Path, options: LoadOptions) -> Result<Model, Error> {
    let source = Source::open(dir)?;
    let mut model = Model::load(&source, &options, &mut |_, _| ())?.model;
    model.pack(Precision::F32, false);
    Ok(model)
}

fn logits(model: &Model) -> Vec<f32> {
    let hidden = model.hidden(&PackedRows::sequence(&IDS));
    op::logits(&hidden, model.head()).data().to_vec()
}

/// Size of the difference, beside that of `want`.
fn relative(got: &[f32], want: &[f32]) -> f32 {
    let square = |x: &mut dyn Iterator<Item = f32>| x.map(|x| x * x).sum::<f32>();
    let difference = square(&mut got.iter().zip(want).map(|(g, w)| g - w));
    (difference / square(&mut want.iter().copied())).sqrt()
}

#[test]
fn every_format_on_the_way_keeps_the_model_within_its_error() {
    // Without routed experts, of which a small error may choose another.
    let dense = Config { first_k_dense_replace: 3, ..v3() };
    let (scratch, model) = saved_of("formats", dense);
    let want = logits(&model);
    for (format, bound) in [
        (Format::F32, 1e-5),
        (Format::Bf16, 0.02),
        (Format::F16, 0.003),
        (Format::F8E4M3, 0.25),
        (Format::Q8_0, 0.05),
        (Format::Q6K, 0.1),
        (Format::Q5K, 0.2),
        (Format::Q4K, 0.4),
        (Format::Q4_0, 0.5),
    ] {
        let options = LoadOptions { quant: Some(format), ..LoadOptions::default() };
        let error = relative(&logits(&load(&scratch.0, options).unwrap()), &want);
        println!("{}: {error}", format.name());
        assert!(error < bound, "{}: {error}", format.name());
        let lossy = format != Format::F32;
        assert!(!lossy || error > bound / 100.0, "{} changed nothing: {error}", format.name());
    }
}

#[test]
fn what_is_quantised_on_the_way_equals_what_was_written_and_read() {
    let (scratch, _) = saved("written");
    let source = Source::open(&scratch.0).unwrap();
    for format in fathom_model::DIRECTORY_FORMATS {
        let options = LoadOptions { quant: Some(format), ..LoadOptions::default() };
        export_directory(&source, &scratch.out(), Some(format), &|| false).unwrap();
        let written = load(&scratch.out(), LoadOptions::default()).unwrap();
        let (got, want) = (logits(&written), logits(&load(&scratch.0, options).unwrap()));
        if format == Format::F8E4M3 {
            // Embedding, head and routers are bf16 in a directory.
            assert!(relative(&got, &want) < 0.02);
            assert!(written.config.quantization_config.is_some());
        } else if format == Format::F32 {
            assert_eq!(got, want);
        } else {
            // Routers keep their format on the way, in a directory they follow.
            assert!(relative(&got, &want) < 0.02, "{}", format.name());
        }
    }
    let refused =
        export_directory(&source, &scratch.out(), Some(Format::Q4K), &|| false).unwrap_err();
    assert!(refused.to_string().contains("cannot hold `q4_k`"), "{refused}");
}

#[test]
fn a_stopped_export_leaves_no_weights() {
    let (scratch, _) = saved("stopped");
    let source = Source::open(&scratch.0).unwrap();
    let error =
        export_directory(&source, &scratch.out(), Some(Format::Bf16), &|| true).unwrap_err();
    assert!(error.to_string().contains("stopped"), "{error}");
    let left: Vec<_> = std::fs::read_dir(scratch.out()).unwrap().flatten().collect();
    assert!(left.iter().all(|entry| entry.file_name() == "config.json"), "{left:?}");
}

#[test]
fn a_gguf_holds_what_is_quantised_on_the_way() {
    // Latent attention is written in another form; q and k of Llama in another order of rows.
    let dense = json!({
        "model_type": "qwen2", "vocab_size": 70, "hidden_size": 256, "intermediate_size": 512,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 128, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
        "tie_word_embeddings": false, "hidden_act": "silu", "initializer_range": 0.05,
    });
    let (scratch, _) = saved_of("gguf", Config::from_json(&dense).unwrap());
    let source = Source::open(&scratch.0).unwrap();
    for format in [Format::F32, Format::Q8_0, Format::Q6K, Format::Q4K, Format::Iq4Xs, Format::Q2K]
    {
        let give = |spec: &_| fathom_model::export_source(&source, spec);
        let prefix = scratch.out().join(format.name());
        let config = source.config();
        let paths = gguf::export(config, "test", None, format, &give, &prefix, u64::MAX).unwrap();
        let options = LoadOptions { quant: Some(format), ..LoadOptions::default() };
        let want = logits(&load(&scratch.0, options).unwrap());
        let got = logits(&load(&paths[0], LoadOptions::default()).unwrap());
        assert_eq!(got, want, "{}", format.name());
    }
}

#[test]
fn an_fp8_checkpoint_is_written_again_bit_for_bit() {
    let (scratch, _) = saved("fp8");
    let source = Source::open(&scratch.0).unwrap();
    export_directory(&source, &scratch.out(), Some(Format::F8E4M3), &|| false).unwrap();
    let (fp8, again) = (Source::open(scratch.out()).unwrap(), scratch.0.join("again"));
    std::fs::create_dir_all(&again).unwrap();
    export_directory(&fp8, &again, None, &|| false).unwrap();
    for file in ["model.safetensors", "config.json"] {
        let read = |dir: &Path| std::fs::read(dir.join(file)).unwrap();
        assert!(read(&scratch.out()) == read(&again), "{file}");
    }
}

#[test]
fn a_small_model_that_is_packed_has_the_bits_of_the_trained_one() {
    let (scratch, trained) = saved("small");
    let source = Source::open(&scratch.0).unwrap();
    let mut model = Model::load(&source, &LoadOptions::default(), &mut |_, _| ()).unwrap().model;
    assert!(model.head().as_stored().is_some());
    model.pack_small();
    assert!(model.head().as_stored().is_none());
    model.pack(Precision::F32, false);
    assert_eq!(logits(&model), logits(&trained));
}

#[test]
fn experts_on_demand_compute_the_same_bits() {
    let (scratch, _) = saved("demand");
    let source = Source::open(&scratch.0).unwrap();
    let whole = Model::load(&source, &LoadOptions::default(), &mut |_, _| ()).unwrap();
    let want = logits(&load(&scratch.0, LoadOptions::default()).unwrap());
    let least = (1..).map(|i| whole.weight_bytes * i / 40).find(|&limit| {
        load(&scratch.0, LoadOptions { memory_bytes: Some(limit), ..LoadOptions::default() })
            .is_ok()
    });
    let least = least.unwrap();
    assert!(least < whole.weight_bytes / 2, "{least} of {}", whole.weight_bytes);
    for limit in [least, whole.weight_bytes / 2, whole.weight_bytes - 1, whole.weight_bytes] {
        let options = LoadOptions { memory_bytes: Some(limit), ..LoadOptions::default() };
        let model = load(&scratch.0, options).unwrap();
        for _ in 0..3 {
            assert_eq!(logits(&model), want, "{limit} of {} bytes", whole.weight_bytes);
        }
    }
}

#[test]
fn memory_that_cannot_do_is_refused_with_the_least_that_can() {
    let (scratch, _) = saved("memory");
    let few = LoadOptions { memory_bytes: Some(1000), ..LoadOptions::default() };
    let error = load(&scratch.0, few).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Memory { found_bytes: 1000, .. }), "{error}");
    let quantised = LoadOptions { quant: Some(Format::Q8_0), ..few };
    let error = load(&scratch.0, quantised).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::NotOnDisk), "{error}");
}

/// Writes one matrix of a model a second time, changed, into a checkpoint of nothing but it.
fn refused(name: &str, tensors: Vec<TensorSource<'_>>) -> String {
    let scratch = Scratch::new(name);
    let text = format!("{:#}", v3().to_json());
    std::fs::write(scratch.0.join("config.json"), text).unwrap();
    write_directory(&scratch.0, tensors, 1 << 30).unwrap();
    load(&scratch.0, LoadOptions::default()).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn wrong_tensors_are_refused_by_name() {
    let embed = "model.embed_tokens.weight";
    let missing =
        refused("missing", vec![TensorSource::from_bytes("x", Dtype::U8, &[1], &[0][..])]);
    assert!(missing.contains(embed), "{missing}");
    let short = TensorSource::from_f32(embed, Dtype::F32, &[69, 256], vec![0.0; 69 * 256]);
    let text = refused("shape", vec![short]);
    assert!(text.contains(embed) && text.contains("[69, 256]") && text.contains("[70, 256]"));
    let codes = || TensorSource::from_bytes(embed, Dtype::F8E4M3, &[70, 256], vec![0; 70 * 256]);
    let text = refused("scales", vec![codes()]);
    assert!(text.contains("has no `model.embed_tokens.weight_scale_inv`"), "{text}");
    let few = TensorSource::from_f32(format!("{embed}_scale_inv"), Dtype::F32, &[1, 1], vec![1.0]);
    let text = refused("few", vec![codes(), few]);
    assert!(text.contains("[1, 2]") && text.contains("[1, 1]"), "{text}");
    let whole = TensorSource::from_bytes(embed, Dtype::I32, &[70, 256], vec![0; 4 * 70 * 256]);
    let text = refused("dtype", vec![whole]);
    assert!(text.contains("I32") && text.contains("F8_E4M3"), "{text}");
}

#[test]
fn unknown_tensors_are_reported_and_do_no_harm() {
    let (scratch, model) = saved("unknown");
    let mut tensors: Vec<TensorSource> = model
        .weights()
        .iter()
        .map(|w| TensorSource::from_f32(&w.name, Dtype::F32, &w.shape, w.values()))
        .collect();
    for name in ["model.layers.0.self_attn.rotary_emb.inv_freq", "model.layers.9.mlp.extra.weight"]
    {
        tensors.push(TensorSource::from_f32(name, Dtype::F32, &[1], vec![0.0]));
    }
    write_directory(&scratch.0, tensors, 1 << 30).unwrap();
    let source = Source::open(&scratch.0).unwrap();
    let loaded = Model::load(&source, &LoadOptions::default(), &mut |_, _| ()).unwrap();
    assert_eq!(loaded.unknown, ["model.layers.9.mlp.extra.weight"]);
}
