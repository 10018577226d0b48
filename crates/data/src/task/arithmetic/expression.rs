//! The sums behind the arithmetic problems, how their operands are drawn, and the identity that
//! keeps held-out operands out of training in every form: bare, story, either language.

use serde::Serialize;

use crate::random::{Rng, hash_key};
use crate::task::{Split, in_split};

/// One operation on two non-negative numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Operation {
    Add,
    Sub,
    Mul,
}

/// What is to be computed. Results are never negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Expression {
    /// `a op b`.
    One { operation: Operation, a: u32, b: u32 },
    /// `a + b - c`.
    AddSub { a: u32, b: u32, c: u32 },
    /// `a × b + c`.
    MulAdd { a: u32, b: u32, c: u32 },
}

impl Operation {
    /// `+`, `-` or `×`.
    pub fn sign(self) -> char {
        match self {
            Operation::Add => '+',
            Operation::Sub => '-',
            Operation::Mul => '×',
        }
    }

    /// The result; `a >= b` for a subtraction.
    pub fn apply(self, a: u32, b: u32) -> u32 {
        match self {
            Operation::Add => a + b,
            Operation::Sub => a - b,
            Operation::Mul => a * b,
        }
    }
}

impl Expression {
    /// `a op b`.
    pub fn one(operation: Operation, a: u32, b: u32) -> Self {
        Expression::One { operation, a, b }
    }

    /// The result.
    pub fn value(self) -> u32 {
        match self {
            Expression::One { operation, a, b } => operation.apply(a, b),
            Expression::AddSub { a, b, c } => a + b - c,
            Expression::MulAdd { a, b, c } => a * b + c,
        }
    }

    /// As it is written: `348 + 275`, `97 × 3 + 80`.
    pub fn text(self) -> String {
        match self {
            Expression::One { operation, a, b } => format!("{a} {} {b}", operation.sign()),
            Expression::AddSub { a, b, c } => format!("{a} + {b} - {c}"),
            Expression::MulAdd { a, b, c } => format!("{a} × {b} + {c}"),
        }
    }

    /// The operations to do, in order; the second works on the result of the first.
    pub fn steps(self) -> Vec<(Operation, u32, u32)> {
        match self {
            Expression::One { operation, a, b } => vec![(operation, a, b)],
            Expression::AddSub { a, b, c } => {
                vec![(Operation::Add, a, b), (Operation::Sub, a + b, c)]
            }
            Expression::MulAdd { a, b, c } => {
                vec![(Operation::Mul, a, b), (Operation::Add, a * b, c)]
            }
        }
    }

    /// What is asked, as a hash: the operation and its operands, sorted where they commute.
    pub fn identity(self) -> u64 {
        let sorted = |a: u32, b: u32| [u64::from(a.min(b)), u64::from(a.max(b))];
        let (tag, [x, y], c) = match self {
            Expression::One { operation: Operation::Sub, a, b } => {
                (1, [u64::from(a), u64::from(b)], 0)
            }
            Expression::One { operation, a, b } => (operation as u64, sorted(a, b), 0),
            Expression::AddSub { a, b, c } => (3, sorted(a, b), u64::from(c)),
            Expression::MulAdd { a, b, c } => (4, sorted(a, b), u64::from(c)),
        };
        hash_key(&[tag, x, y, c])
    }

    /// Whether a problem about this may appear in `split`.
    ///
    /// A two-step problem is held out by its triple. For training, its inner operations must be
    /// training ones too: else `So 348+275=623.` would stand in the solution of a longer problem.
    pub fn is_in(self, split: Split) -> bool {
        let inner_is_free = || {
            self.steps()
                .into_iter()
                .all(|(operation, a, b)| in_split(Self::one(operation, a, b).identity(), split))
        };
        in_split(self.identity(), split) && (split == Split::HeldOut || inner_is_free())
    }
}

/// The form of the problem to draw operands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    One(Operation),
    AddSub,
    MulAdd,
}

/// Draws operands of `difficulty` digits (see `docs/tasks.md`) until one is in `split`; every form
/// has identities in both splits at every difficulty, so this ends.
pub(super) fn draw(form: Form, difficulty: u8, split: Split, rng: &mut Rng) -> Expression {
    loop {
        if let Some(expression) = propose(form, difficulty, rng)
            && expression.is_in(split)
        {
            return expression;
        }
    }
}

/// Some operands, or none if they would give a negative or trivial result.
fn propose(form: Form, difficulty: u8, rng: &mut Rng) -> Option<Expression> {
    let number = |digits: u8, rng: &mut Rng| -> u32 {
        let low = 10_u64.pow(u32::from(digits) - 1);
        rng.between(low, 10 * low - 1) as u32
    };
    // Factors start at 2: times 1 is no exercise.
    let factor = |rng: &mut Rng| rng.between(2, 9) as u32;
    Some(match form {
        Form::One(Operation::Add) => {
            let (a, b) = (number(difficulty, rng), number(difficulty, rng));
            Expression::one(Operation::Add, a, b)
        }
        Form::One(Operation::Sub) => {
            let (x, y) = (number(difficulty, rng), number(difficulty, rng));
            if x == y {
                return None;
            }
            Expression::one(Operation::Sub, x.max(y), x.min(y))
        }
        Form::One(Operation::Mul) => {
            let a = if difficulty == 1 { factor(rng) } else { number(difficulty, rng) };
            Expression::one(Operation::Mul, a, factor(rng))
        }
        Form::AddSub => {
            let (a, b) = (number(difficulty, rng), number(difficulty, rng));
            let c = number(difficulty, rng);
            if c >= a + b {
                return None;
            }
            Expression::AddSub { a, b, c }
        }
        Form::MulAdd => {
            // Products stay small: two digits times one at most, then a sum of `difficulty` digits.
            let a = if difficulty == 1 { factor(rng) } else { number(2, rng) };
            Expression::MulAdd { a, b: factor(rng), c: number(difficulty, rng) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_ignores_order_only_where_operands_commute() {
        let id = |operation, a, b| Expression::one(operation, a, b).identity();
        assert_eq!(id(Operation::Add, 348, 275), id(Operation::Add, 275, 348));
        assert_eq!(id(Operation::Mul, 24, 6), id(Operation::Mul, 6, 24));
        assert_ne!(id(Operation::Sub, 9, 5), id(Operation::Sub, 5, 9));
        assert_ne!(id(Operation::Add, 9, 5), id(Operation::Mul, 9, 5));
    }

    #[test]
    fn every_form_has_several_held_out_identities_at_every_difficulty() {
        let forms = [
            Form::One(Operation::Add),
            Form::One(Operation::Sub),
            Form::One(Operation::Mul),
            Form::AddSub,
            Form::MulAdd,
        ];
        for form in forms {
            for difficulty in 1..=3 {
                let mut rng = Rng::from_key(&[1, u64::from(difficulty)]);
                for split in [Split::Train, Split::HeldOut] {
                    let found: std::collections::BTreeSet<u64> = (0..400)
                        .map(|_| draw(form, difficulty, split, &mut rng).identity())
                        .collect();
                    assert!(found.len() >= 3, "{form:?} {difficulty} {split:?}: {}", found.len());
                }
            }
        }
    }
}
