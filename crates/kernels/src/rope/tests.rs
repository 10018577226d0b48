//! Tests of the rotation: golden frequencies, the definition in f64, gradients, bits.

use super::*;
use crate::testing::{assert_close, golden, noise, numbers, same_bits_everywhere};

fn plain_spec(dim: usize) -> RopeSpec {
    RopeSpec { dim, theta: 10000.0, scaling: Scaling::None }
}

/// `mscale` ≠ `mscale_all_dim`, so that the factor on cos and sin is not 1.
fn yarn_spec(dim: usize) -> RopeSpec {
    let yarn = Yarn {
        factor: 8.0,
        original_max_position_embeddings: 512.0,
        beta_fast: 32.0,
        beta_slow: 1.0,
        mscale: 1.0,
        mscale_all_dim: 0.707,
    };
    RopeSpec { dim, theta: 10000.0, scaling: Scaling::Yarn(yarn) }
}

fn spec_of(case: &serde_json::Value) -> RopeSpec {
    let scaling = &case["rope_scaling"];
    let field = |name: &str| scaling[name].as_f64();
    let need = |name: &str| field(name).unwrap_or_else(|| panic!("`{name}` in {scaling}"));
    let kind = scaling["type"].as_str().or(scaling["rope_type"].as_str());
    let scaling = match kind {
        None | Some("default") => Scaling::None,
        Some("linear") => Scaling::Linear { factor: need("factor") },
        Some("yarn") => Scaling::Yarn(Yarn {
            factor: need("factor"),
            original_max_position_embeddings: need("original_max_position_embeddings"),
            beta_fast: field("beta_fast").unwrap_or(32.0),
            beta_slow: field("beta_slow").unwrap_or(1.0),
            mscale: field("mscale").unwrap_or(1.0),
            mscale_all_dim: field("mscale_all_dim").unwrap_or(0.0),
        }),
        Some("llama3") => Scaling::Llama3(Llama3 {
            factor: need("factor"),
            low_freq_factor: need("low_freq_factor"),
            high_freq_factor: need("high_freq_factor"),
            original_max_position_embeddings: need("original_max_position_embeddings"),
        }),
        Some(other) => panic!("unknown scaling `{other}`"),
    };
    let dim = case["dim"].as_u64().unwrap() as usize;
    RopeSpec { dim, theta: case["rope_theta"].as_f64().unwrap(), scaling }
}

fn check_frequencies(case: &serde_json::Value) -> Frequencies {
    let got = spec_of(case).frequencies();
    for (got, want) in got.inv_freq.iter().zip(numbers(&case["inv_freq"])) {
        assert!((*got as f64 / want - 1.0).abs() < 1e-7, "{got} is not {want}");
    }
    assert_eq!(2 * got.inv_freq.len() as u64, case["dim"].as_u64().unwrap());
    got
}

#[test]
fn plain_linear_and_llama3_frequencies_match_the_golden_values() {
    let Some(golden) = golden("rope") else { return };
    for case in golden.as_array().unwrap() {
        let got = check_frequencies(case);
        assert_eq!((got.cos_sin_factor, got.softmax_factor), (1.0, 1.0));
    }
}

#[test]
fn yarn_matches_the_golden_values() {
    let Some(golden) = golden("yarn") else { return };
    for case in golden.as_array().unwrap() {
        let got = check_frequencies(case);
        let spec = spec_of(case);
        let Scaling::Yarn(yarn) = spec.scaling else { panic!("not yarn: {case}") };
        let want = (case["low"].as_f64().unwrap(), case["high"].as_f64().unwrap());
        assert_eq!(yarn.ramp(spec.dim, spec.theta), want);
        for (got, key) in
            [(got.cos_sin_factor, "cos_sin_factor"), (got.softmax_factor, "softmax_factor")]
        {
            let want = case[key].as_f64().unwrap();
            assert!((got / want - 1.0).abs() < 1e-8, "{key}: {got} is not {want}");
        }
    }
}

/// The rotation as its definition says, in f64, from the same angles.
fn plain(
    layout: Layout,
    spec: &RopeSpec,
    positions: &[u32],
    heads: HeadSlices,
    x: &[f32],
) -> Vec<f64> {
    let frequencies = spec.frequencies();
    let mut out: Vec<f64> = x.iter().map(|&v| v as f64).collect();
    for (row, &position) in positions.iter().enumerate() {
        for head in 0..heads.n_heads {
            let at = row * heads.row_stride + head * heads.head_stride + heads.offset;
            for (i, freq) in frequencies.inv_freq.iter().enumerate() {
                let (j, k) = match layout {
                    Layout::HalfSplit => (at + i, at + i + spec.dim / 2),
                    Layout::Interleaved => (at + 2 * i, at + 2 * i + 1),
                };
                let angle = (freq * position as f32) as f64;
                let (cos, sin) = (
                    angle.cos() * frequencies.cos_sin_factor,
                    angle.sin() * frequencies.cos_sin_factor,
                );
                let (a, b) = (x[j] as f64, x[k] as f64);
                (out[j], out[k]) = (a * cos - b * sin, b * cos + a * sin);
            }
        }
    }
    out
}

const POSITIONS: [u32; 5] = [0, 1, 255, 256, 163_839];

/// Whole heads, the tail of each head, and one slice behind a latent, as MLA uses them.
fn cases() -> Vec<(usize, HeadSlices)> {
    vec![
        (2, HeadSlices::packed(1, 2, 0)),
        (14, HeadSlices::packed(3, 14, 0)),
        (64, HeadSlices::packed(2, 192, 128)),
        (6, HeadSlices { row_stride: 17, n_heads: 1, head_stride: 6, offset: 11 }),
        (66, HeadSlices { row_stride: 300, n_heads: 2, head_stride: 66, offset: 99 }),
    ]
}

#[test]
fn rotation_equals_its_definition_and_leaves_the_rest_alone() {
    for (dim, heads) in cases() {
        for spec in [plain_spec(dim), yarn_spec(dim)] {
            for layout in [Layout::HalfSplit, Layout::Interleaved] {
                let x = noise(1, POSITIONS.len() * heads.row_stride);
                let mut got = x.clone();
                rotate(layout, &RopeTable::new(&spec), &POSITIONS, heads, &mut got);
                let want = plain(layout, &spec, &POSITIONS, heads, &x);
                assert_close(&got, &want, 1e-6, &format!("{layout:?} {heads:?}"));
            }
        }
    }
}

#[test]
fn rotate_back_is_the_transpose() {
    // The rotation is linear: Σ dy · R(x) = Σ Rᵀ(dy) · x for every x and dy.
    for (dim, heads) in cases() {
        let table = RopeTable::new(&yarn_spec(dim));
        for layout in [Layout::HalfSplit, Layout::Interleaved] {
            let n = POSITIONS.len() * heads.row_stride;
            let (x, dy) = (noise(1, n), noise(2, n));
            let (mut turned, mut back) = (x.clone(), dy.clone());
            rotate(layout, &table, &POSITIONS, heads, &mut turned);
            rotate_back(layout, &table, &POSITIONS, heads, &mut back);
            let forward = crate::elementwise::dot(&turned, &dy);
            let backward = crate::elementwise::dot(&x, &back);
            assert!((forward - backward).abs() < 1e-5, "{forward} and {backward}");
        }
    }
}

#[test]
fn rotate_back_undoes_a_plain_rotation() {
    let heads = HeadSlices::packed(3, 14, 0);
    let table = RopeTable::new(&plain_spec(14));
    let x = noise(1, POSITIONS.len() * heads.row_stride);
    let mut got = x.clone();
    rotate(Layout::HalfSplit, &table, &POSITIONS, heads, &mut got);
    rotate_back(Layout::HalfSplit, &table, &POSITIONS, heads, &mut got);
    assert!(got.iter().zip(&x).all(|(g, x)| (g - x).abs() < 1e-6));
}

#[test]
fn layouts_agree_up_to_the_order_of_values() {
    let dim = 14;
    let heads = HeadSlices::packed(1, dim, 0);
    let table = RopeTable::new(&plain_spec(dim));
    let mut pairs = noise(1, POSITIONS.len() * dim);
    let to_halves = |pairs: &[f32]| -> Vec<f32> {
        let order = (0..dim).map(|i| if i < dim / 2 { 2 * i } else { 2 * i - dim + 1 });
        pairs.chunks_exact(dim).flat_map(|row| order.clone().map(|i| row[i])).collect()
    };
    let mut halves = to_halves(&pairs);
    rotate(Layout::Interleaved, &table, &POSITIONS, heads, &mut pairs);
    rotate(Layout::HalfSplit, &table, &POSITIONS, heads, &mut halves);
    assert_eq!(to_halves(&pairs), halves);
}

#[test]
fn bits_are_the_same_on_every_level_and_thread_count() {
    let heads = HeadSlices::packed(4, 192, 128);
    let positions: Vec<u32> = (0..300).map(|i| i * 7 % 311).collect();
    let x = noise(1, positions.len() * heads.row_stride);
    for layout in [Layout::HalfSplit, Layout::Interleaved] {
        same_bits_everywhere(|| {
            let mut x = x.clone();
            rotate(layout, &RopeTable::new(&plain_spec(64)), &positions, heads, &mut x);
            x
        });
    }
}

#[test]
#[should_panic(expected = "ends at 15")]
fn heads_that_leave_the_row_are_refused() {
    let table = RopeTable::new(&plain_spec(14));
    rotate(Layout::HalfSplit, &table, &[0], HeadSlices::packed(1, 14, 1), &mut [0.0; 14]);
}
