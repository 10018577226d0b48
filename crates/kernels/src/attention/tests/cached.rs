//! Claims about attention over a cache, and what a cache keeps.

use super::super::cached::forward_cached_on;
use super::*;
use crate::convert::{f16_to_f32, f32_to_f16};

/// A cache of `case`, taken as the documents `lengths` one after the other, blocks dealt out of order.
/// Returns it with the block tables.
fn fill(case: &Case, lengths: &[usize], mut cache: PagedKv) -> (PagedKv, Vec<Vec<u32>>) {
    let h = &case.heads;
    let n_blocks: usize = lengths.iter().map(|n| n.div_ceil(BLOCK_TOKENS)).sum();
    cache.grow(n_blocks + 1);
    // Whatever a block held before must not matter.
    let (k_len, v_len) = (h.n_kv_heads * h.qk_dim, h.n_kv_heads * h.v_dim);
    let v_used = |x: &[f32]| if cache.is_latent() { vec![] } else { x.to_vec() };
    let stale = v_used(&vec![f32::NAN; v_len]);
    let latent = cache.is_latent();
    for block in 0..n_blocks as u32 + 1 {
        for slot in 0..BLOCK_TOKENS {
            cache.write(block, slot, &vec![f32::NAN; k_len], &stale);
        }
    }
    let mut free: Vec<u32> = (0..n_blocks as u32).map(|b| n_blocks as u32 - b).collect();
    let mut start = 0;
    let mut tables = vec![];
    for &n in lengths {
        let table: Vec<u32> = (0..n.div_ceil(BLOCK_TOKENS)).filter_map(|_| free.pop()).collect();
        let places: Vec<(u32, u32)> =
            (0..n).map(|i| (table[i / BLOCK_TOKENS], (i % BLOCK_TOKENS) as u32)).collect();
        let v = if latent { &[][..] } else { &case.v[start * v_len..(start + n) * v_len] };
        cache.write_rows(&places, &case.k[start * k_len..(start + n) * k_len], v);
        tables.push(table);
        start += n;
    }
    (cache, tables)
}

/// Every row of the documents `lengths`, from the cache, in several ways, has the bits of `want`.
fn check_cached(case: &Case, lengths: &[usize], cache: PagedKv, isa: Isa, want: &[f32]) {
    let h = &case.heads;
    let (cache, tables) = fill(case, lengths, cache);
    let start = |doc: usize| lengths[..doc].iter().sum::<usize>();
    let mut calls: Vec<Vec<CachedSegment>> = vec![];
    // All documents whole, in one call.
    calls.push(
        (0..lengths.len())
            .map(|doc| {
                let rows = start(doc)..start(doc) + lengths[doc];
                CachedSegment { blocks: &tables[doc], past: 0, rows }
            })
            .collect(),
    );
    // In chunks of 1, 2, 3, … rows, all documents side by side; the last call of each decodes one row.
    let mut past = vec![0; lengths.len()];
    for chunk in 1.. {
        let mut call = vec![];
        for doc in 0..lengths.len() {
            let left = lengths[doc] - past[doc];
            let n = if left > 1 { chunk.min(left - 1) } else { left };
            let first = start(doc) + past[doc];
            if n > 0 {
                let blocks = &tables[doc][..];
                call.push(CachedSegment { blocks, past: past[doc], rows: first..first + n });
            }
            past[doc] += n;
        }
        if call.is_empty() {
            break;
        }
        calls.push(call);
    }
    // Single rows, alone.
    for (doc, at) in [(0, 0), (lengths.len() - 1, lengths[lengths.len() - 1] - 1)] {
        let rows = start(doc) + at..start(doc) + at + 1;
        calls.push(vec![CachedSegment { blocks: &tables[doc], past: at, rows }]);
    }
    for call in &calls {
        let mut out = vec![f32::NAN; want.len()];
        forward_cached_on(isa, h, &cache, call, &case.q, &mut out);
        for segment in call {
            let len = h.n_heads * h.v_dim;
            let part = segment.rows.start * len..segment.rows.end * len;
            assert_eq!(bits(&out[part.clone()]), bits(&want[part]), "{h:?} {isa:?} {segment:?}");
        }
    }
}

/// One document after the other.
fn documents(lengths: &[usize]) -> Vec<Segment> {
    let mut end = 0;
    let mut document = |&n: &usize| {
        end += n;
        Segment::document(end - n..end)
    };
    lengths.iter().map(&mut document).collect()
}

#[test]
fn cached_rows_have_the_bits_of_the_whole_sequence() {
    for h in shapes() {
        let lengths = [1, 64, 65, 130, 7];
        let case = case(h, lengths.iter().sum());
        let segments = documents(&lengths);
        for isa in available_isas() {
            let (want, _) = case.forward(isa, &segments);
            let cache = PagedKv::new(h.n_kv_heads, h.qk_dim, h.v_dim);
            check_cached(&case, &lengths, cache, isa, &want);
        }
    }
}

#[test]
fn latent_rows_have_the_bits_of_multi_query_attention() {
    for h in [heads(4, 1, 48, 32), heads(5, 1, 7, 5), heads(40, 1, 72, 64), heads(1, 1, 576, 512)] {
        let lengths = [65, 3, 81];
        let mut case = case(h, lengths.iter().sum());
        let value = |key: &[f32]| key[..h.v_dim].to_vec();
        case.v = case.k.chunks(h.qk_dim).flat_map(value).collect();
        let segments = documents(&lengths);
        for isa in available_isas() {
            let (want, _) = case.forward(isa, &segments);
            let cache = PagedKv::latent(h.qk_dim, h.v_dim);
            check_cached(&case, &lengths, cache, isa, &want);
        }
    }
}

fn rounded(x: &[f32]) -> Vec<f32> {
    x.iter().map(|&x| f16_to_f32(f32_to_f16(x))).collect()
}

#[test]
fn half_precision_rows_have_the_bits_of_rounded_keys_and_values() {
    // Decoded from half precision, widened for many queries, several parts.
    for (h, lengths) in [
        (heads(6, 2, 48, 32), vec![65, 3, 81]),
        (heads(5, 1, 7, 5), vec![130, 1]),
        (heads(12, 2, 128, 128), vec![300]),
    ] {
        let case = case(h, lengths.iter().sum());
        let exact = Case { k: rounded(&case.k), v: rounded(&case.v), q: case.q.clone(), ..case };
        let segments = documents(&lengths);
        for isa in available_isas() {
            let (want, _) = exact.forward(isa, &segments);
            let cache = PagedKv::new(h.n_kv_heads, h.qk_dim, h.v_dim).with_type(CacheType::F16);
            check_cached(&case, &lengths, cache, isa, &want);
        }
    }
}

#[test]
fn half_precision_latent_rows_have_the_bits_of_rounded_latents() {
    for (h, lengths) in [
        (heads(4, 1, 48, 32), vec![65, 3, 81]),
        (heads(5, 1, 7, 5), vec![300, 1]),
        (heads(16, 1, 96, 64), vec![70]),
    ] {
        let case = case(h, lengths.iter().sum());
        let k = rounded(&case.k);
        let v = k.chunks(h.qk_dim).flat_map(|key| key[..h.v_dim].to_vec()).collect();
        let exact = Case { k, v, q: case.q.clone(), ..case };
        let segments = documents(&lengths);
        for isa in available_isas() {
            let (want, _) = exact.forward(isa, &segments);
            let cache = PagedKv::latent(h.qk_dim, h.v_dim).with_type(CacheType::F16);
            check_cached(&case, &lengths, cache, isa, &want);
        }
    }
}

#[test]
fn an_exported_block_is_imported_bit_for_bit() {
    let shapes = [PagedKv::new(2, 5, 7), PagedKv::latent(20, 12)];
    for cache_type in [CacheType::F32, CacheType::F16] {
        for cache in shapes.clone() {
            let mut from = cache.with_type(cache_type);
            let (n_kv, qk, v) = (from.n_kv_heads(), from.qk_dim(), from.v_dim());
            from.grow(3);
            let places: Vec<(u32, u32)> = (0..BLOCK_TOKENS as u32).map(|slot| (1, slot)).collect();
            let k = noise(4, BLOCK_TOKENS * n_kv * qk);
            let n_values = if from.is_latent() { 0 } else { BLOCK_TOKENS * n_kv * v };
            from.write_rows(&places, &k, &noise(5, n_values));
            let mut bytes = vec![9];
            from.export_block(1, &mut bytes);
            assert_eq!(bytes.len(), 1 + from.block_bytes());

            let mut to = shapes[usize::from(from.is_latent())].clone().with_type(cache_type);
            to.grow(2);
            to.import_block(0, &bytes[1..]);
            let mut again = Vec::new();
            to.export_block(0, &mut again);
            assert_eq!(again, bytes[1..]);
            assert!(again.iter().any(|byte| *byte != 0));
            again.clear();
            to.export_block(1, &mut again);
            assert!(again.iter().all(|byte| *byte == 0), "the neighbour is left alone");
        }
    }
}

#[test]
fn what_is_expected_is_grown_into_without_a_copy_and_too_much_does_no_harm() {
    let mut cache = PagedKv::new(2, 5, 7);
    cache.expect(50);
    cache.grow(2);
    let start = cache.keys::<f32>(0, 0).as_ptr();
    cache.grow(50);
    assert_eq!((start, cache.n_blocks()), (cache.keys::<f32>(0, 0).as_ptr(), 50));
    cache.expect(usize::MAX);
    cache.expect(usize::MAX / 4000);
    cache.grow(51);
    assert_eq!(cache.n_blocks(), 51);
}

#[test]
#[should_panic(expected = "bytes of a block")]
fn a_block_of_another_length_is_refused() {
    let mut cache = PagedKv::latent(20, 12);
    cache.grow(1);
    cache.import_block(0, &[0; 64]);
}

#[test]
fn one_thread_and_all_threads_give_the_same_bits_over_a_long_cache() {
    let (n, n_keys) = (3, 700);
    for latent in [false, true] {
        let h = heads(20, if latent { 1 } else { 2 }, 48, 32);
        let case = case(h, n_keys);
        let cache = if latent { PagedKv::latent(48, 32) } else { PagedKv::new(2, 48, 32) };
        let (cache, tables) = fill(&case, &[n_keys], cache.with_type(CacheType::F16));
        let decode = |rows: Range<usize>| {
            let mut out = vec![0.0; n_keys * h.n_heads * h.v_dim];
            let segment =
                CachedSegment { blocks: &tables[0], past: rows.start, rows: rows.clone() };
            forward_cached(&h, &cache, &[segment], &case.q, &mut out);
            bits(&out[rows.start * h.n_heads * h.v_dim..rows.end * h.n_heads * h.v_dim])
        };
        let all = decode(n_keys - n..n_keys);
        threads::limit_threads(Some(1));
        let one = decode(n_keys - n..n_keys);
        // Many rows: each list walks over its parts in turn.
        let many = decode(0..n_keys);
        threads::limit_threads(None);
        assert_eq!(all, one);
        assert_eq!(all, many[many.len() - all.len()..]);
    }
}

#[test]
fn sequences_that_share_blocks_decode_as_if_alone() {
    for latent in [false, true] {
        // A prompt of 100 tokens; its first block is shared, its second one copied.
        let h = heads(4, if latent { 1 } else { 2 }, 48, 32);
        let n = 9;
        let case = case(h, 100 + n);
        let make = || if latent { PagedKv::latent(48, 32) } else { PagedKv::new(2, 48, 32) };
        let values = |rows: Range<usize>| {
            let len = h.n_kv_heads * h.v_dim;
            if latent { &[][..] } else { &case.v[rows.start * len..rows.end * len] }
        };
        let (mut cache, tables) = fill(&case.rows(0..100), &[100], make());
        let own = cache.n_blocks() as u32;
        cache.grow(own as usize + n);
        let len = h.n_kv_heads * h.qk_dim;
        let tables: Vec<Vec<u32>> = (0..n)
            .map(|i| {
                cache.copy_block(tables[0][1], own + i as u32);
                let row = 100 + i;
                let k = &case.k[row * len..(row + 1) * len];
                cache.write(own + i as u32, 100 % BLOCK_TOKENS, k, values(row..row + 1));
                vec![tables[0][0], own + i as u32]
            })
            .collect();
        let segments: Vec<CachedSegment> = (0..n)
            .map(|i| CachedSegment { blocks: &tables[i], past: 100, rows: 100 + i..101 + i })
            .collect();
        for isa in available_isas() {
            let mut together = vec![0.0; case.n_rows() * h.n_heads * h.v_dim];
            forward_cached_on(isa, &h, &cache, &segments, &case.q, &mut together);
            let mut each = vec![0.0; together.len()];
            for segment in segments.iter().rev() {
                let one = std::slice::from_ref(segment);
                forward_cached_on(isa, &h, &cache, one, &case.q, &mut each);
            }
            assert_eq!(bits(&together), bits(&each));
            assert!(
                together[100 * h.n_heads * h.v_dim..].iter().all(|x| x.is_finite() && *x != 0.0)
            );
        }
    }
}

#[test]
fn keys_made_chunk_by_chunk_give_the_bits_of_the_whole_sequence() {
    let h = heads(3, 3, 24, 16);
    let n = 1100;
    let case = case(h, n);
    let (want, _) = case.forward(cpu().isa, &[Segment::document(0..n)]);
    for past in [0, 1023, 1024, 1090] {
        let q = &case.q[past * 72..];
        let mut out = vec![f32::NAN; (n - past) * 48];
        forward_chunked(&h, past, q, &mut out, |keys, places, cache| {
            let (k, v) =
                (&case.k[keys.start * 72..keys.end * 72], &case.v[keys.start * 48..keys.end * 48]);
            cache.write_rows(places, k, v);
        });
        assert_eq!(bits(&out), bits(&want[past * 48..]), "{past}");
    }
}
