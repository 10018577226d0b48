//! Claims about the MTP module over a cache.

use fathom_model::cache::{CacheForm, KvCache};
use fathom_model::{CachedRows, Config, Model, PackedRows, Precision, Rows};
use fathom_tensor::{Tape, Tensor};
use std::cell::RefCell;

pub(crate) const CONFIG: &str = r#"{
    "model_type": "deepseek_v3", "vocab_size": 40, "hidden_size": 24, "intermediate_size": 36,
    "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 256,
    "q_lora_rank": 12, "kv_lora_rank": 8, "qk_nope_head_dim": 6, "qk_rope_head_dim": 4,
    "v_head_dim": 6, "n_routed_experts": 4, "n_shared_experts": 1, "moe_intermediate_size": 10,
    "num_experts_per_tok": 2, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
    "topk_method": "noaux_tc", "scoring_func": "sigmoid", "norm_topk_prob": true,
    "num_nextn_predict_layers": 1, "initializer_range": 0.2, "tie_word_embeddings": false
}"#;

/// Rows of `tokens` in pieces of `chunk` through main model and module; what the module says.
fn cached(form: CacheForm, tokens: &[u32], chunk: usize) -> Vec<f32> {
    let mut model = Model::random(Config::from_text(CONFIG).unwrap(), 5).unwrap();
    let spec = model.pack_for_cache(Precision::F32, form);
    assert_eq!(spec.n_mtp_layers, 1);
    let cache = RefCell::new(KvCache::new(spec));
    cache.borrow_mut().grow(2);
    let (mut past, mut out) = (0, Vec::new());
    // The last token is only what follows the last row.
    for piece in tokens[..tokens.len() - 1].chunks(chunk) {
        let mut rows = CachedRows::default();
        rows.push(&[1, 0], past, piece);
        let hidden = model.hidden_cached(&rows, &cache);
        let next = &tokens[past + 1..past + 1 + piece.len()];
        let said: Tensor = model.mtp_cached(&rows, &cache, &hidden, next, None).unwrap();
        out.extend_from_slice(said.data());
        past += piece.len();
    }
    out
}

fn whole(tokens: &[u32]) -> Vec<f32> {
    let mut model = Model::random(Config::from_text(CONFIG).unwrap(), 5).unwrap();
    model.pack_for_cache(Precision::F32, CacheForm::Expanded);
    let rows = PackedRows::sequence(&tokens[..tokens.len() - 1]);
    let (tape, rows) = (Tape::forgetting(), Rows::Packed(&rows));
    let hidden = model.forward(&tape, rows, None).hidden;
    let mtp = model.forward_mtp(&tape, rows, None, &hidden, &tokens[1..]).unwrap();
    mtp.hidden.data().to_vec()
}

#[test]
fn the_module_says_the_same_over_a_cache_as_over_whole_sequences() {
    let tokens: Vec<u32> = (0..91).map(|i| (i * 17 + i * i) % 40).collect();
    let want = whole(&tokens);
    for chunk in [1, 7, 64, 90] {
        assert_eq!(cached(CacheForm::Expanded, &tokens, chunk), want, "in pieces of {chunk}");
    }
    let latent = cached(CacheForm::Latent, &tokens, 90);
    for chunk in [1, 7] {
        assert_eq!(cached(CacheForm::Latent, &tokens, chunk), latent, "in pieces of {chunk}");
    }
    let worst = latent.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-4, "absorbed and expanded differ by {worst}");
}

#[test]
fn a_model_without_a_module_needs_no_layer_for_it() {
    let plain =
        CONFIG.replace("\"num_nextn_predict_layers\": 1", "\"num_nextn_predict_layers\": 0");
    let mut model = Model::random(Config::from_text(&plain).unwrap(), 5).unwrap();
    let spec = model.pack_for_cache(Precision::F32, CacheForm::Latent);
    assert_eq!((spec.n_mtp_layers, spec.n_all_layers(), model.has_mtp()), (0, 2, false));
}
