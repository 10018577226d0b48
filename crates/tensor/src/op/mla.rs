//! Keys and values of multi-head latent attention in the expanded form
//! (DeepSeek-V2, arXiv:2405.04434, section 2.1).

use crate::buffer::Buffer;
use crate::tape::Tape;
use crate::tensor::Tensor;
use fathom_kernels::columns::{self, Columns};

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
    let (nope, rope) = (part(d_qk, 0, d_nope), part(d_qk, d_nope, d_rope));
    let (kv_key, kv_value) = (part(d_kv, 0, d_nope), part(d_kv, d_nope, d_v));
    let mut keys = Buffer::stale(n * n_heads * d_qk);
    let mut values = Buffer::stale(n * n_heads * d_v);
    columns::copy(kv.data(), kv_key, &mut keys, nope);
    columns::copy_repeated(k_rope.data(), Columns::all(d_rope), n_heads, &mut keys, rope);
    columns::copy(kv.data(), kv_value, &mut values, Columns::all(d_v));
    let (node_kv, node_rope) = (kv.node, k_rope.node);
    let [keys, values] =
        tape.outputs([(keys, &[n, n_heads, d_qk]), (values, &[n, n_heads, d_v])], |nodes| {
            move |backward| {
                let [dk, dv] = nodes.map(|node| backward.take(node));
                let mut dkv = Buffer::stale(n * n_heads * d_kv);
                match &dk {
                    Some(dk) => columns::copy(dk, nope, &mut dkv, kv_key),
                    None => columns::fill(0.0, &mut dkv, kv_key),
                }
                match &dv {
                    Some(dv) => columns::copy(dv, Columns::all(d_v), &mut dkv, kv_value),
                    None => columns::fill(0.0, &mut dkv, kv_value),
                }
                backward.give(node_kv, dkv);
                if let Some(dk) = dk {
                    let mut drope = Buffer::stale(n * d_rope);
                    columns::sum_repeated(&dk, rope, n_heads, &mut drope, Columns::all(d_rope));
                    backward.give(node_rope, drope);
                }
            }
        });
    (keys, values)
}

fn part(row_len: usize, first: usize, width: usize) -> Columns {
    Columns { row_len, first, width }
}
