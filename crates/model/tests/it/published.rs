//! Every preset against what was published about it: parameters, cache, bytes of the weights.
//!
//! Totals were printed by loaders of the converted checkpoints (671.026 B, 235.741 B, 15.706 B,
//! 32.76 B, 14.77 B) or follow from the papers' tables of shapes: arXiv:2401.14196 table 2 (Coder),
//! arXiv:2401.02954 table 2 (LLM), arXiv:2402.03300 (Math), arXiv:2401.06066 section 5.1 (MoE),
//! arXiv:2405.04434 section 3.1.2 and appendix B (V2), arXiv:2412.19437 section 4.2 (V3),
//! arXiv:2501.12948 (R1), and for the distilled models from their bases. Active parameters are
//! published as 2.8 B (MoE), 2.4 B (V2-Lite), 21 B (V2) and 37 B (V3); the strings below are the
//! counts behind those roundings. Cache elements: arXiv:2405.04434, table 1.

use fathom_kernels::quant::Format;
use fathom_model::Config;
use fathom_model::cost::{
    Parameters, cache_bytes_per_token, cache_elements_per_token, parameters, released_format,
    weight_bytes,
};
use fathom_model::preset::{self, PRESETS};

/// What is known of one preset.
struct Published {
    name: &'static str,
    total: u64,
    /// Billions with and without the embedding; `None` for dense models, where all are active.
    active: Option<(&'static str, &'static str)>,
    /// Keys and values, or latent and rotary key, of one token in all layers.
    cache_elements: u64,
    /// The same in bf16.
    cache_bytes: u64,
}

const fn dense(name: &'static str, total: u64, cache_elements: u64, cache_bytes: u64) -> Published {
    Published { name, total, active: None, cache_elements, cache_bytes }
}

const fn sparse(
    name: &'static str,
    total: u64,
    active: (&'static str, &'static str),
    cache_elements: u64,
    cache_bytes: u64,
) -> Published {
    Published { name, total, active: Some(active), cache_elements, cache_bytes }
}

const LITE: (&str, &str) = ("2.66", "2.45");
const LARGE: (&str, &str) = ("21.38", "20.85");
const LARGEST: (&str, &str) = ("37.55", "36.63");

const TABLE: &[Published] = &[
    dense("coder-1.3b", 1_346_471_936, 98_304, 196_608),
    dense("coder-1.3b-instruct", 1_346_471_936, 98_304, 196_608),
    dense("coder-5.7b-mqa", 5_700_325_376, 8_192, 16_384),
    dense("coder-5.7b-mqa-instruct", 5_700_325_376, 8_192, 16_384),
    dense("coder-6.7b", 6_740_512_768, 262_144, 524_288),
    dense("coder-6.7b-instruct", 6_740_512_768, 262_144, 524_288),
    dense("coder-33b", 33_342_991_360, 126_976, 253_952),
    dense("coder-33b-instruct", 33_342_991_360, 126_976, 253_952),
    dense("llm-7b", 6_910_365_696, 245_760, 491_520),
    dense("llm-67b", 67_425_001_472, 194_560, 389_120),
    sparse("moe-16b", 16_375_728_128, ("2.83", "2.62"), 114_688, 229_376),
    dense("coder-7b-v1.5", 6_910_365_696, 245_760, 491_520),
    dense("coder-7b-v1.5-instruct", 6_910_365_696, 245_760, 491_520),
    dense("math-7b", 6_910_365_696, 245_760, 491_520),
    sparse("v2", 235_741_434_880, LARGE, 34_560, 69_120),
    sparse("v2-lite", 15_706_484_224, LITE, 15_552, 31_104),
    sparse("coder-v2-lite", 15_706_484_224, LITE, 15_552, 31_104),
    sparse("coder-v2", 235_741_434_880, LARGE, 34_560, 69_120),
    sparse("v2.5", 235_741_434_880, LARGE, 34_560, 69_120),
    sparse("v3", 671_026_419_200, LARGEST, 35_136, 70_272),
    sparse("r1-zero", 671_026_419_200, LARGEST, 35_136, 70_272),
    sparse("r1", 671_026_419_200, LARGEST, 35_136, 70_272),
    dense("distill-qwen-1.5b", 1_777_088_000, 14_336, 28_672),
    dense("distill-qwen-7b", 7_615_616_512, 28_672, 57_344),
    dense("distill-qwen-14b", 14_770_033_664, 98_304, 196_608),
    dense("distill-qwen-32b", 32_763_876_352, 131_072, 262_144),
    dense("distill-llama-8b", 8_030_261_248, 65_536, 131_072),
    dense("distill-llama-70b", 70_553_706_496, 163_840, 327_680),
    sparse("v3.1", 671_026_419_200, LARGEST, 35_136, 70_272),
];

fn billions(n: u64) -> String {
    format!("{:.2}", n as f64 / 1e9)
}

#[test]
fn every_preset_has_the_published_parameters_cache_and_bytes() {
    assert_eq!(
        TABLE.iter().map(|row| row.name).collect::<Vec<_>>(),
        PRESETS.iter().map(|preset| preset.name).collect::<Vec<_>>()
    );
    for (row, preset) in TABLE.iter().zip(PRESETS) {
        let config = (preset.config)();
        let counts = parameters(&config);
        assert_eq!(counts.total, row.total, "{}", row.name);
        match row.active {
            None => assert_eq!(counts.active, row.total, "{}", row.name),
            Some((active, without_embedding)) => {
                assert_eq!(billions(counts.active), active, "{}", row.name);
                let counted = billions(counts.active_without_embedding);
                assert_eq!(counted, without_embedding, "{}", row.name);
            }
        }
        assert_eq!(cache_elements_per_token(&config), row.cache_elements, "{}", row.name);
        assert_eq!(cache_bytes_per_token(&config, 2), row.cache_bytes, "{}", row.name);
        check_mtp(&config, &counts);
        check_weight_bytes(&config, &counts);
    }
}

/// V3's card: 11.5 B parameters of the MTP module's own and 14 B as stored, 685 B in all.
fn check_mtp(config: &Config, counts: &Parameters) {
    if config.num_nextn_predict_layers == 0 {
        assert_eq!((counts.mtp, counts.mtp_with_copies, counts.mtp_active), (0, 0, 0));
        return;
    }
    assert_eq!(billions(counts.mtp), "11.61");
    assert_eq!(billions(counts.mtp_with_copies), "13.46");
    assert_eq!(billions(counts.mtp_active), "2.54");
    let stored = counts.total + counts.mtp_with_copies;
    assert_eq!((stored as f64 / 1e9).round(), 684.0, "published as 685");
}

/// The files of `deepseek-ai/DeepSeek-V3` have 688,586,727,753 bytes; what they have beyond the
/// tensors is the headers of 163 shards with some 91 thousand names. All other releases are bf16.
fn check_weight_bytes(config: &Config, counts: &Parameters) {
    let bytes = weight_bytes(config, released_format(config));
    let stored = counts.total + counts.mtp_with_copies;
    if config.quantization_config.is_none() {
        assert_eq!(bytes.total(), 2 * stored);
        return;
    }
    let headers = 688_586_727_753 - bytes.total();
    assert!((5_000_000..20_000_000).contains(&headers), "{headers}");
    let bf16 = weight_bytes(config, Format::Bf16).total();
    let f32_biases = 2 * 256 * (58 + 1);
    assert_eq!(bf16, 2 * stored + f32_biases);
}

#[test]
fn caches_of_other_models_compared_by_the_papers_are_counted_alike() {
    // arXiv:2505.09343: both have 8 key-value heads of 128.
    let layers = |num_hidden_layers| Config { num_hidden_layers, ..preset::llm_67b() };
    assert_eq!(cache_bytes_per_token(&layers(80), 2), 327_680); // Qwen2.5-72B
    assert_eq!(cache_bytes_per_token(&layers(126), 2), 516_096); // Llama-3.1-405B
    // V2 with 6-bit values against LLM-67B in bf16: 93.3 % less (arXiv:2405.04434, 3.2.3).
    let v2 = cache_elements_per_token(&preset::v2()) * 6 / 8;
    let less = 1.0 - v2 as f64 / cache_bytes_per_token(&preset::llm_67b(), 2) as f64;
    assert_eq!((v2, format!("{less:.3}")), (25_920, "0.933".to_owned()));
}
