//! A distribution over the vocabulary that follows another one, both made by the same head.

use super::log_prob::{LOGITS_AT_ONCE, Picked};
use crate::buffer::Buffer;
use crate::tape::Tape;
use crate::tensor::Tensor;
use crate::weight::Weight;
use fathom_kernels::{cross_entropy, elementwise};

/// Which rows of h follow which rows of a teacher.
#[derive(Clone, Debug, Default)]
pub struct Pairs {
    /// Rows of h, each at most once.
    pub rows: Vec<u32>,
    /// The teacher's row for each; may repeat.
    pub teacher_rows: Vec<u32>,
    /// The token that came there. It decides nothing, its log-probability is reported.
    pub tokens: Vec<u32>,
}

/// How far h is from its teacher.
#[derive(Clone, Debug, Default)]
pub struct Distilled {
    /// Log-probability of each pair's token under h.
    pub log_probs: Vec<f32>,
    /// Pairs whose likeliest token is the same.
    pub n_agree: usize,
}

/// Adds the loss `weight · Σ CE(p, q)` to a recording tape: p and q are the head's distributions over the
/// teacher's rows and over those of h. Its derivative by the logits of h is `weight · (q − p)`, as that
/// of the KL divergence. Only h gets a gradient, the head and the teacher none.
///
/// Shapes: h [N, D], teacher [M, D], head [V, D].
pub fn linear_distil<'w>(
    tape: &Tape<'w>,
    h: &Tensor,
    teacher: &Tensor,
    head: &'w Weight,
    pairs: &Pairs,
    weight: f32,
) -> Distilled {
    let (n, width, vocab) = (h.n_rows(), h.width(), head.n_out());
    let n_pairs = pairs.rows.len();
    assert_eq!(n_pairs, pairs.teacher_rows.len(), "rows and the teacher's rows");
    assert_eq!(n_pairs, pairs.tokens.len(), "rows and tokens");
    let mut out = Distilled { log_probs: vec![0.0; n_pairs], n_agree: 0 };
    let mut dh = tape.is_recording().then(|| Buffer::zeros(n * width));

    let chunk = (LOGITS_AT_ONCE / vocab).clamp(16, 4096);
    for start in (0..n_pairs).step_by(chunk) {
        let range = start..(start + chunk).min(n_pairs);
        let (rows, tokens) = (&pairs.rows[range.clone()], &pairs.tokens[range.clone()]);
        let picked = Picked::of(h, rows);
        let logits_of = |x: &Picked| {
            let mut logits = Buffer::stale(rows.len() * vocab);
            head.multiply(x.data(), rows.len(), &mut logits);
            logits
        };
        let mut mine = logits_of(&picked);
        let mut theirs = logits_of(&Picked::of(teacher, &pairs.teacher_rows[range.clone()]));
        let both = mine.chunks_exact(vocab).zip(theirs.chunks_exact(vocab));
        out.n_agree += both
            .filter(|(mine, theirs)| cross_entropy::argmax(mine) == cross_entropy::argmax(theirs))
            .count();
        let (mut my_lse, mut their_lse) = (Buffer::stale(rows.len()), Buffer::stale(rows.len()));
        cross_entropy::log_probs(
            &theirs,
            tokens,
            &mut out.log_probs[range.clone()],
            &mut their_lse,
        );
        cross_entropy::log_probs(&mine, tokens, &mut out.log_probs[range], &mut my_lse);
        let Some(dh) = &mut dh else { continue };
        // weight (q − onehot) − weight (p − onehot): the tokens drop out.
        let mut dlogp = Buffer::stale(rows.len());
        dlogp.fill(-weight);
        cross_entropy::backward(&mut mine, tokens, &my_lse, &dlogp);
        dlogp.fill(weight);
        cross_entropy::backward(&mut theirs, tokens, &their_lse, &dlogp);
        elementwise::add_assign(&mut mine, &theirs);
        picked.add_gradient(&mine, head, rows, dh);
    }
    if let Some(dh) = dh {
        let node_h = h.node;
        let _ = tape.output(Buffer::zeros(0), &[0], |_| {
            move |backward: &mut crate::Backward| backward.give(node_h, dh)
        });
    }
    out
}
