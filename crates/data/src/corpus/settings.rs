//! What the generated corpus is made of, as shares that a recipe can set.

use serde::{Deserialize, Serialize};

use crate::task::arithmetic::ProblemMix;

/// The make-up of the corpus. Fields called `…_share` are probabilities in `[0, 1]`; the others are
/// weights of a choice, which need not add up to one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CorpusSettings {
    /// Text put before `User:` on some dialogue pages (the R1-Zero template); may be empty.
    pub preamble: String,
    /// Dialogue pages about problems that carry the preamble.
    pub preamble_share: f64,

    /// Pages of small talk from the task `general`.
    pub chat_share: f64,
    /// Pages of one-digit facts. What is left are pages of problems.
    pub drill_share: f64,

    /// Shape of a response: the answer alone.
    pub terse: f64,
    /// Shape: a worked solution in the language of the question.
    pub worked: f64,
    /// Shape: a worked solution in `<think>` tags, a boxed answer in `<answer>` tags.
    pub tagged: f64,
    /// Shape: the same tags around a guess without steps.
    pub tagged_guess: f64,
    /// Shape: a worked solution that changes language.
    pub mixed: f64,
    /// Mixed responses that wear tags.
    pub mixed_tagged_share: f64,
    /// Wrong answers among terse answers and guesses of difficulty 2 and 3.
    pub wrong_share: f64,

    /// Layout of pages without tags: `Question: … Answer: …`.
    pub plain: f64,
    /// Layout without tags: numbered lists of bare exercises.
    pub textbook: f64,
    /// Layout without tags: `User: … Assistant: …`.
    pub dialogue: f64,
    /// Pages with tags that are dialogues; the rest are plain.
    pub tagged_dialogue_share: f64,

    /// Which problems.
    pub problems: ProblemMix,
}

impl Default for CorpusSettings {
    fn default() -> Self {
        Self {
            preamble: String::new(),
            preamble_share: 0.5,
            chat_share: 0.08,
            drill_share: 0.07,
            terse: 0.60,
            worked: 0.15,
            tagged: 0.12,
            tagged_guess: 0.05,
            mixed: 0.08,
            mixed_tagged_share: 0.5,
            wrong_share: 0.15,
            plain: 0.4,
            textbook: 0.2,
            dialogue: 0.4,
            tagged_dialogue_share: 0.9,
            problems: ProblemMix::default(),
        }
    }
}

impl CorpusSettings {
    /// Weights of the response shapes, in the order of the fields.
    pub(super) fn shapes(&self) -> [f64; 5] {
        [self.terse, self.worked, self.tagged, self.tagged_guess, self.mixed]
    }

    /// Weights of the layouts of pages without tags, in the order of the fields.
    pub(super) fn layouts(&self) -> [f64; 3] {
        [self.plain, self.textbook, self.dialogue]
    }

    /// Name and value of the first setting that cannot work: a share outside `[0, 1]`, a negative
    /// weight, or weights without a positive sum (then the name is the first of them).
    pub fn invalid(&self) -> Option<(&'static str, f64)> {
        let shares = [
            ("preamble_share", self.preamble_share),
            ("chat_share", self.chat_share),
            ("drill_share", self.drill_share),
            ("drill_share", self.chat_share + self.drill_share),
            ("mixed_tagged_share", self.mixed_tagged_share),
            ("wrong_share", self.wrong_share),
            ("tagged_dialogue_share", self.tagged_dialogue_share),
        ];
        let weights = [
            ("terse", self.terse),
            ("worked", self.worked),
            ("tagged", self.tagged),
            ("tagged_guess", self.tagged_guess),
            ("mixed", self.mixed),
            ("plain", self.plain),
            ("textbook", self.textbook),
            ("dialogue", self.dialogue),
        ];
        let sums = [
            ("terse", self.shapes().iter().sum::<f64>()),
            ("plain", self.layouts().iter().sum::<f64>()),
        ];
        let bad_share = shares.into_iter().find(|(_, share)| !(0.0..=1.0).contains(share));
        let bad_weight = weights.into_iter().find(|(_, w)| !w.is_finite() || *w < 0.0);
        let bad_sum = sums.into_iter().find(|(_, sum)| *sum <= 0.0);
        bad_share.or(bad_weight).or(bad_sum).or(self.problems.invalid())
    }
}
