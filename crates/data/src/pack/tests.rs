//! Claims about packing: nothing lost, nothing twice, the order known beforehand.

use super::*;
use crate::random::Rng;

const EOS: u32 = 1;

/// Documents of random lengths whose tokens are all different (from 10 on).
fn documents(seed: u64, n: usize) -> Vec<Vec<u32>> {
    let mut rng = Rng::from_key(&[seed]);
    let mut next = 9;
    (0..n)
        .map(|_| {
            let len = rng.below(12);
            (0..len)
                .map(|_| {
                    next += 1;
                    next
                })
                .collect()
        })
        .collect()
}

fn plan(mask: Mask) -> BatchPlan {
    BatchPlan { batch_sequences: 3, sequence_tokens: 8, seed: 5, order: Order::Shuffled, mask }
}

#[test]
fn stream_holds_every_token_once_in_order_with_eos() {
    for seed in 0..20 {
        let documents = documents(seed, 30);
        let set = pack_stream(&documents, EOS);
        let mut expected = Vec::new();
        let mut starts = Vec::new();
        for document in documents.iter().filter(|document| !document.is_empty()) {
            starts.push(expected.len());
            expected.extend_from_slice(document);
            expected.push(EOS);
        }
        assert_eq!(set.tokens, expected);
        assert_eq!(set.starts, starts);
    }
}

#[test]
fn a_document_that_closes_itself_gets_no_second_eos() {
    assert_eq!(pack_stream([vec![7, EOS], vec![8]], EOS).tokens, [7, EOS, 8, EOS]);
}

#[test]
fn one_epoch_makes_every_token_but_the_first_a_target_once() {
    let set = pack_stream(documents(1, 60), EOS);
    let n = set.n_sequences(8);
    let mut targets = Vec::new();
    for number in 0..n as u64 {
        targets.push(set.batch_at(&plan(Mask::None), number, 1).unwrap().targets);
    }
    targets.sort();
    let mut expected: Vec<_> = (0..n).map(|r| set.tokens[r * 8 + 1..r * 8 + 9].to_vec()).collect();
    expected.sort();
    assert_eq!(targets, expected);
    assert!(set.tokens.len() - 1 - n * 8 < 8, "only a tail shorter than a sequence is left out");
}

#[test]
fn targets_follow_inputs_and_segments_tile_the_rows() {
    for mask in [Mask::None, Mask::Documents] {
        let set = pack_stream(documents(2, 60), EOS);
        let batch = set.batch(&plan(mask), 4).unwrap();
        assert_eq!(batch.n_tokens(), 24);
        let mut next_row = 0;
        for rows in &batch.segments {
            assert_eq!(rows.start, next_row);
            assert!(rows.end > rows.start);
            next_row = rows.end;
            for row in rows.clone() {
                assert_eq!(batch.positions[row] as usize, row - rows.start);
                if row + 1 < rows.end {
                    assert_eq!(batch.targets[row], batch.tokens[row + 1]);
                    assert_eq!(batch.loss_mask[row], 1.0);
                }
            }
        }
        assert_eq!(next_row, 24);
    }
}

#[test]
fn document_mask_cuts_exactly_at_documents_and_drops_their_borders() {
    let set = pack_stream([vec![10, 11, 12], vec![20, 21], vec![30, 31, 32, 33]], EOS);
    // tokens: 10 11 12 E 20 21 E 30 31 32 33 E
    let plan = BatchPlan {
        batch_sequences: 1,
        sequence_tokens: 7,
        seed: 0,
        order: Order::Sequential,
        mask: Mask::Documents,
    };
    let batch = set.batch(&plan, 0).unwrap();
    assert_eq!(batch.tokens, [10, 11, 12, EOS, 20, 21, EOS]);
    assert_eq!(batch.segments, [0..4, 4..7]);
    assert_eq!(batch.positions, [0, 1, 2, 3, 0, 1, 2]);
    // The last row would predict 30, the start of the third document.
    assert_eq!(batch.loss_mask, [1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0]);
    let short = BatchPlan { sequence_tokens: 5, ..plan };
    let second = set.batch(&short, 1).unwrap();
    assert_eq!(second.tokens, [21, EOS, 30, 31, 32]);
    assert_eq!(second.segments, [0..2, 2..5]);
    assert_eq!(second.loss_mask, [1.0, 0.0, 1.0, 1.0, 1.0]);
    assert_eq!(second.targets[4], 33);
}

#[test]
fn a_batch_depends_on_seed_and_step_only() {
    let set = pack_stream(documents(3, 200), EOS);
    let first: Vec<_> = (0..40).map(|step| set.batch(&plan(Mask::None), step).unwrap()).collect();
    for step in (0..40).rev() {
        assert_eq!(set.batch(&plan(Mask::None), step).unwrap(), first[step as usize]);
    }
    let other = BatchPlan { seed: 6, ..plan(Mask::None) };
    assert_ne!(set.batch(&other, 0).unwrap(), first[0]);
    // A batch is its sequences, whatever the batch size.
    let mut joined = TokenBatch::default();
    for number in 6..9 {
        joined.append(&set.batch_at(&plan(Mask::None), number, 1).unwrap());
    }
    assert_eq!(joined, first[2]);
}

#[test]
fn permutation_is_a_bijection_and_differs_by_key() {
    for n in [1, 2, 3, 4, 5, 16, 17, 63, 64, 65, 1000, 4097] {
        let permutation = Permutation::new(n, 77);
        let mut image: Vec<u64> = (0..n).map(|place| permutation.at(place)).collect();
        if n >= 63 {
            let fixed = image.iter().enumerate().filter(|&(a, &b)| a as u64 == b).count();
            assert!(fixed < 10, "{fixed} of {n} stay where they are");
            let other = Permutation::new(n, 78);
            assert_ne!(image, (0..n).map(|place| other.at(place)).collect::<Vec<_>>());
        }
        image.sort_unstable();
        assert_eq!(image, (0..n).collect::<Vec<_>>());
    }
    assert!(Permutation::new(1 << 62, 3).at((1 << 62) - 1) < 1 << 62);
}

#[test]
fn permutation_spreads_each_place_evenly() {
    // Place 0 of 10 goes to each value about equally often over keys.
    let mut counts = [0_u32; 10];
    for key in 0..5000 {
        counts[Permutation::new(10, key).at(0) as usize] += 1;
    }
    assert!(counts.iter().all(|&count| (380..620).contains(&count)), "{counts:?}");
}

#[test]
fn epochs_visit_every_item_once_each_in_another_order() {
    let epoch = |number: u64| batch_indices(13, number * 13, 13, 9, Order::Shuffled);
    assert_ne!(epoch(0), epoch(1));
    for number in 0..5 {
        let mut seen = epoch(number);
        seen.sort_unstable();
        assert_eq!(seen, (0..13).collect::<Vec<_>>());
    }
    // Across the border of two epochs.
    let both = [epoch(0), epoch(1)].concat();
    assert_eq!(batch_indices(13, 8, 10, 9, Order::Shuffled), both[8..18]);
    assert_eq!(batch_indices(3, 1, 5, 9, Order::Sequential), [1, 2, 0, 1, 2]);
}

#[test]
fn too_small_a_corpus_is_an_error_with_both_numbers() {
    let set = pack_stream([vec![5, 6]], EOS);
    let error = set.batch(&plan(Mask::None), 0).unwrap_err();
    assert!(error.to_string().starts_with("the corpus has 3 tokens, one sequence needs 9"));
    let nothing = BatchPlan { batch_sequences: 0, ..plan(Mask::None) };
    assert!(matches!(set.batch(&nothing, 0), Err(Error::EmptyBatch { .. })));
    let error = PackedSet::default().batch(&plan(Mask::Documents), 3).unwrap_err();
    assert!(matches!(error, Error::TooFewTokens { have: 0, need: 9 }));
}

fn example(prompt: &[u32], response: &[u32]) -> Example {
    Example { prompt: prompt.to_vec(), response: response.to_vec() }
}

#[test]
fn only_response_and_eos_are_learned() {
    let examples = [example(&[10, 11], &[20, 21]), example(&[12], &[22])];
    let packed = pack_examples(&examples, 16, EOS, TooLong::Skip);
    assert_eq!(packed.rows.len(), 1);
    let row = &packed.rows[0];
    assert_eq!(row.tokens, [10, 11, 20, 21, EOS, 12, 22, EOS]);
    assert_eq!(row.loss_mask, [0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0]);
    assert_eq!(row.segments, [0..5, 5..8]);
    assert_eq!(row.positions, [0, 1, 2, 3, 4, 0, 1, 2]);
    let learned: Vec<_> = row
        .targets
        .iter()
        .zip(&row.loss_mask)
        .filter(|(_, m)| **m > 0.0)
        .map(|(t, _)| *t)
        .collect();
    assert_eq!(learned, [20, 21, EOS, 22, EOS]);
}

#[test]
fn examples_stay_whole_and_fill_the_first_row_with_room() {
    let long = example(&[1; 6], &[2; 3]); // 10 with EOS
    let short = example(&[3; 2], &[4; 1]); // 4
    let packed = pack_examples(&[long.clone(), long, short.clone(), short], 14, 9, TooLong::Skip);
    assert_eq!(packed.members, [vec![0, 2], vec![1, 3]]);
    assert!(packed.rows.iter().all(|row| row.n_tokens() == 14));
}

#[test]
fn random_examples_are_each_packed_once_within_budget() {
    for seed in 0..20 {
        let mut rng = Rng::from_key(&[seed, 4]);
        let mut draw = |n: u64| (0..rng.below(n)).map(|_| 5).collect::<Vec<u32>>();
        let examples: Vec<_> =
            (0..300).map(|_| Example { prompt: draw(20), response: draw(20) }).collect();
        for too_long in [TooLong::Skip, TooLong::Truncate] {
            let packed = pack_examples(&examples, 25, EOS, too_long);
            let mut seen: Vec<_> = packed.members.concat();
            assert_eq!(seen.len() + packed.n_skipped, 300);
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len() + packed.n_skipped, 300);
            for (row, members) in packed.rows.iter().zip(&packed.members) {
                assert!(row.n_tokens() <= 25);
                assert_eq!(row.segments.len(), members.len());
            }
            assert_eq!(packed, pack_examples(&examples, 25, EOS, too_long));
        }
    }
}

#[test]
fn an_example_longer_than_a_row_is_cut_or_left_out_and_counted() {
    let examples = [example(&[10, 11], &[20, 21, 22]), example(&[1; 9], &[2]), example(&[5], &[])];
    let cut = pack_examples(&examples, 4, EOS, TooLong::Truncate);
    assert_eq!((cut.n_truncated, cut.n_skipped), (1, 2));
    assert_eq!(cut.rows[0].tokens, [10, 11, 20, 21]);
    assert_eq!(cut.rows[0].loss_mask, [0.0, 1.0, 1.0, 0.0]);
    let skipped = pack_examples(&examples, 4, EOS, TooLong::Skip);
    assert_eq!((skipped.rows.len(), skipped.n_skipped), (0, 3));
}

#[test]
fn a_response_without_a_prompt_learns_from_its_second_token() {
    let mut batch = TokenBatch::default();
    batch.push_example(&[], &[7, 8, 9]);
    batch.push_example(&[], &[]);
    assert_eq!(batch.loss_mask, [1.0, 1.0, 0.0]);
    assert_eq!(batch.segments, vec![Range { start: 0, end: 3 }]);
    assert_eq!(batch.n_loss_tokens(), 2);
}
