//! Draws tokens among the allowed: a model without any sense.

use super::{Case, Grammars, Tokenizer};
use fathom_engine::service::Constraint;
use fathom_text::special::EOS;

/// Tokens after which a walk heads for the end.
const N_FREE: usize = 300;
/// Tokens after which a walk has lost its way.
const N_MOST: usize = 4000;

/// A walk from a seed.
pub(super) struct Walk<'a> {
    tokenizer: &'a Tokenizer,
    constraint: Box<dyn Constraint>,
    state: u64,
    pub(super) ids: Vec<u32>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        tokenizer: &'a Tokenizer,
        constraint: Box<dyn Constraint>,
        seed: u64,
    ) -> Walk<'a> {
        Walk { tokenizer, constraint, state: seed * 77 + 1, ids: Vec::new() }
    }

    pub(super) fn allowed(&mut self) -> Vec<u32> {
        // One word more than the vocabulary needs, as models pad theirs.
        let mut mask = vec![u32::MAX; self.tokenizer.vocab_size().div_ceil(32) + 1];
        self.constraint.allow(&mut mask).unwrap();
        let ids = 0..32 * mask.len() as u32;
        ids.filter(|id| mask[*id as usize / 32] & (1 << (id % 32)) != 0).collect()
    }

    pub(super) fn accept(&mut self, id: u32) {
        self.constraint.accept(id).unwrap();
        self.ids.push(id);
    }

    /// Says `text`, token by token, if it is allowed.
    pub(super) fn say(&mut self, text: &str) {
        for id in self.tokenizer.encode(text) {
            let allowed = self.allowed();
            let shown = self.tokenizer.token_text(id);
            assert!(allowed.contains(&id), "{shown:?} after {:?}", self.text());
            self.accept(id);
        }
    }

    pub(super) fn may_say(&mut self, text: &str) -> bool {
        let first = self.tokenizer.encode(text)[0];
        self.allowed().contains(&first)
    }

    pub(super) fn text(&self) -> String {
        self.tokenizer.decode(&self.ids)
    }

    /// Draws up to the end token; the text in front of it.
    pub(super) fn finish(mut self) -> String {
        let eos = self.tokenizer.token_id(EOS).unwrap();
        while self.ids.len() < N_MOST {
            let allowed = self.allowed();
            assert!(!allowed.is_empty(), "no way on after {:?}", self.text());
            let id = self.draw(&allowed);
            if id == eos {
                self.constraint.accept(id).unwrap();
                return self.text();
            }
            self.accept(id);
        }
        panic!("no end: {:?}", self.text());
    }

    fn draw(&mut self, allowed: &[u32]) -> u32 {
        self.state = self.state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let random = (self.state >> 33) as usize;
        // Strings end at one token of hundreds, so a walk that only draws would rarely leave one.
        if self.ids.len() > N_FREE || random.is_multiple_of(4) {
            let closing = |id: &&u32| {
                let text = self.tokenizer.token_text(**id).unwrap_or_default();
                text == EOS || text.ends_with(['"', '}', ']', '>', '`']) && text.len() < 3
            };
            let closing: Vec<u32> = allowed.iter().filter(closing).copied().collect();
            if !closing.is_empty() {
                return closing[random / 4 % closing.len()];
            }
        }
        allowed[random / 4 % allowed.len()]
    }
}

/// What a case gives for each of some seeds.
pub(super) fn walks(
    tokenizer: &Tokenizer,
    grammars: &Grammars,
    case: &Case,
    n: u64,
) -> Vec<String> {
    let walk = |seed| {
        let constraint = case.constraint(grammars).unwrap().expect("a constraint");
        Walk::new(tokenizer, constraint, seed).finish()
    };
    (0..n).map(walk).collect()
}
