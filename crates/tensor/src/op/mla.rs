//! Keys and values of multi-head latent attention in the expanded form
//! (DeepSeek-V2, arXiv:2405.04434, section 2.1).

use crate::buffer::Buffer;
use crate::tape::Tape;
use crate::tensor::Tensor;
use fathom_kernels::threads;

/// Lays out keys and values per head.
///
/// Shapes: kv [N, H · (Dn + Dv)] = `kv_b_proj` of the latent; k_rope [N, Dr], already rotated, shared
/// by all heads. Results: keys [N, H, Dn + Dr] and values [N, H, Dv].
pub fn mla_keys_values(
    tape: &Tape<'_>,
    kv: &Tensor,
    k_rope: &Tensor,
    n_heads: usize,
    (d_nope, d_v): (usize, usize),
) -> (Tensor, Tensor) {
    let (n, d_rope) = (kv.n_rows(), k_rope.width());
    let (d_qk, d_kv) = (d_nope + d_rope, d_nope + d_v);
    assert_eq!(kv.width(), n_heads * d_kv, "width of kv_b_proj");
    let (mut keys, mut values) =
        (Buffer::stale(n * n_heads * d_qk), Buffer::stale(n * n_heads * d_v));
    for i in 0..n {
        let rope = &k_rope.data()[i * d_rope..(i + 1) * d_rope];
        for h in i * n_heads..(i + 1) * n_heads {
            let from = &kv.data()[h * d_kv..(h + 1) * d_kv];
            let key = &mut keys[h * d_qk..(h + 1) * d_qk];
            key[..d_nope].copy_from_slice(&from[..d_nope]);
            key[d_nope..].copy_from_slice(rope);
            values[h * d_v..(h + 1) * d_v].copy_from_slice(&from[d_nope..]);
        }
    }
    let (node_kv, node_rope) = (kv.node, k_rope.node);
    tape.outputs((keys, &[n, n_heads, d_qk]), (values, &[n, n_heads, d_v]), |node_k, node_v| {
        move |backward| {
            let (Some(dk), Some(dv)) = (backward.take(node_k), backward.take(node_v)) else {
                return;
            };
            let (mut dkv, mut drope) =
                (Buffer::stale(n * n_heads * d_kv), Buffer::zeros(n * d_rope));
            threads::run_chunks(&mut dkv, 64 * n_heads * d_kv, |chunk, out| {
                for (at, out) in out.chunks_exact_mut(d_kv).enumerate() {
                    let h = chunk * 64 * n_heads + at;
                    out[..d_nope].copy_from_slice(&dk[h * d_qk..h * d_qk + d_nope]);
                    out[d_nope..].copy_from_slice(&dv[h * d_v..(h + 1) * d_v]);
                }
            });
            for (i, out) in drope.chunks_exact_mut(d_rope.max(1)).enumerate() {
                for h in i * n_heads..(i + 1) * n_heads {
                    let from = &dk[h * d_qk + d_nope..(h + 1) * d_qk];
                    out.iter_mut().zip(from).for_each(|(sum, g)| *sum += g);
                }
            }
            backward.give(node_kv, dkv);
            backward.give(node_rope, drope);
        }
    })
}
