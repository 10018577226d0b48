//! Values of tidied expressions: `+ - * / ^`, `\frac`, `\sqrt`, `\pi`, single-letter variables.
//!
//! Exact as long as only fractions of moderate size occur, else in f64. Two expressions with
//! variables count as equal if they agree at three fixed points to twelve digits; this accepts
//! `2(x+3)` for `2x+6`, also where factoring was the task.

use super::number::{Ratio, decimal};

/// Nesting that is followed; deeper text has no value here. Keeps hostile input off the stack.
const MAX_NESTING: usize = 40;
/// Relative difference below which two f64 values are equal.
const TOLERANCE: f64 = 1e-12;
/// Points at which expressions with variables are compared.
const N_POINTS: usize = 3;

/// The value of an expression.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    /// No rounding took place and no variable occurs.
    Exact(Ratio),
    /// Rounded, or at one point of the variables.
    Real(f64),
}

impl Value {
    fn to_f64(self) -> f64 {
        match self {
            Self::Exact(ratio) => ratio.to_f64(),
            Self::Real(value) => value,
        }
    }

    /// Exact where both sides and the result are, else in f64.
    fn join(
        self,
        other: Self,
        exact: fn(Ratio, Ratio) -> Option<Ratio>,
        real: fn(f64, f64) -> f64,
    ) -> Self {
        if let (Self::Exact(a), Self::Exact(b)) = (self, other)
            && let Some(ratio) = exact(a, b)
        {
            return Self::Exact(ratio);
        }
        Self::Real(real(self.to_f64(), other.to_f64()))
    }

    fn negate(self) -> Self {
        match self {
            Self::Exact(ratio) => Self::Exact(Ratio { numerator: -ratio.numerator, ..ratio }),
            Self::Real(value) => Self::Real(-value),
        }
    }
}

/// The value of `text` at the first point; `None` if it is no expression of this grammar.
pub(super) fn value(text: &str) -> Option<Value> {
    value_at(text, 0)
}

/// Whether two expressions agree at all points. False if one has no finite value somewhere.
pub(super) fn equal_at_points(one: &str, other: &str) -> bool {
    (0..N_POINTS).all(|point| {
        let values = (value_at(one, point), value_at(other, point));
        let (Some(a), Some(b)) = values else { return false };
        let (a, b) = (a.to_f64(), b.to_f64());
        a.is_finite() && b.is_finite() && (a - b).abs() <= TOLERANCE * a.abs().max(b.abs())
    })
}

fn value_at(text: &str, point: usize) -> Option<Value> {
    let mut reader = Reader { rest: text, point, nesting: 0 };
    let value = reader.sum()?;
    reader.rest.trim_start().is_empty().then_some(value)
}

/// Reads one expression from left to right.
struct Reader<'a> {
    rest: &'a str,
    point: usize,
    nesting: usize,
}

impl Reader<'_> {
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start();
        self.rest.chars().next()
    }

    fn take(&mut self, wanted: &str) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn sum(&mut self) -> Option<Value> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return None;
        }
        let mut total = self.product()?;
        loop {
            if self.take("+") {
                total = total.join(self.product()?, Ratio::add, |a, b| a + b);
            } else if self.take("-") {
                total = total.join(self.product()?.negate(), Ratio::add, |a, b| a + b);
            } else {
                self.nesting -= 1;
                return Some(total);
            }
        }
    }

    fn product(&mut self) -> Option<Value> {
        let mut total = self.signed()?;
        loop {
            if self.take("*") {
                total = total.join(self.signed()?, Ratio::mul, |a, b| a * b);
            } else if self.take("/") {
                total = total.join(self.signed()?, Ratio::div, |a, b| a / b);
            } else {
                match self.peek() {
                    // Two numbers side by side are no product; `2 3` means something else.
                    Some(c) if c.is_ascii_alphabetic() || "(\\{".contains(c) => {
                        total = total.join(self.power()?, Ratio::mul, |a, b| a * b);
                    }
                    _ => return Some(total),
                }
            }
        }
    }

    fn signed(&mut self) -> Option<Value> {
        let mut negative = false;
        loop {
            if self.take("-") {
                negative = !negative;
            } else if !self.take("+") {
                break;
            }
        }
        let value = self.power()?;
        Some(if negative { value.negate() } else { value })
    }

    fn power(&mut self) -> Option<Value> {
        let base = self.atom()?;
        if !self.take("^") {
            return Some(base);
        }
        let exponent = self.atom()?;
        if let (Value::Exact(ratio), Value::Exact(n)) = (base, exponent)
            && n.denominator == 1
            && n.numerator.unsigned_abs() <= 64
            && let Some(power) = exact_power(ratio, n.numerator)
        {
            return Some(Value::Exact(power));
        }
        Some(Value::Real(base.to_f64().powf(exponent.to_f64())))
    }

    fn atom(&mut self) -> Option<Value> {
        let c = self.peek()?;
        if c.is_ascii_digit() || c == '.' {
            return self.number();
        }
        if self.take("(") {
            let value = self.sum()?;
            return self.take(")").then_some(value);
        }
        if c == '{' {
            return self.group();
        }
        if self.take("\\frac") {
            let top = self.group()?;
            return Some(top.join(self.group()?, Ratio::div, |a, b| a / b));
        }
        if self.take("\\sqrt") || self.take("sqrt") {
            let root = if self.take("[") {
                let degree = self.sum()?;
                self.take("]").then_some(degree.to_f64())?
            } else {
                2.0
            };
            return self.atom().map(|value| real_root(value, root));
        }
        if self.take("\\pi") || self.take("pi") {
            return Some(Value::Real(std::f64::consts::PI));
        }
        if c.is_ascii_alphabetic() {
            let run = self.rest.chars().take_while(char::is_ascii_alphabetic).count();
            if run > 2 {
                return None; // a word
            }
            self.rest = &self.rest[1..];
            return Some(Value::Real(variable(c, self.point)));
        }
        None
    }

    fn number(&mut self) -> Option<Value> {
        let len =
            self.rest.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
        let (digits, rest) = self.rest.split_at(len);
        let value = decimal(digits)?;
        self.rest = rest;
        // `3\frac{1}{2}` is three and a half if the fraction is one of numbers.
        if rest.starts_with("\\frac{") && !digits.contains('.') {
            // Read once, whatever it is: reading it again as a factor would double per level.
            return Some(match self.atom()? {
                Value::Exact(fraction) => Value::Exact(value.add(fraction)?),
                real => Value::Real(value.to_f64() * real.to_f64()),
            });
        }
        Some(Value::Exact(value))
    }

    fn group(&mut self) -> Option<Value> {
        if !self.take("{") {
            return None;
        }
        let value = self.sum()?;
        self.take("}").then_some(value)
    }
}

/// `None` beyond the range, and for 0 to a negative power.
fn exact_power(base: Ratio, n: i128) -> Option<Ratio> {
    let one = Ratio { numerator: 1, denominator: 1 };
    let mut total = one;
    for _ in 0..n.unsigned_abs() {
        total = total.mul(base)?;
    }
    if n < 0 { one.div(total) } else { Some(total) }
}

/// Exact for the square root of a perfect square.
fn real_root(value: Value, degree: f64) -> Value {
    if let Value::Exact(ratio) = value
        && degree == 2.0
        && ratio.numerator >= 0
    {
        let (top, bottom) = (
            (ratio.numerator as u128).isqrt() as i128,
            (ratio.denominator as u128).isqrt() as i128,
        );
        if top * top == ratio.numerator && bottom * bottom == ratio.denominator {
            return Value::Exact(Ratio { numerator: top, denominator: bottom });
        }
    }
    if degree == 3.0 {
        return Value::Real(value.to_f64().cbrt());
    }
    if degree == 2.0 {
        return Value::Real(value.to_f64().sqrt());
    }
    Value::Real(value.to_f64().powf(1.0 / degree))
}

/// The value of a variable at a point: between 0.5 and 2.5, without structure.
fn variable(name: char, point: usize) -> f64 {
    let phase = (name as u32 as f64) * 0.754_877_666 + (point as f64) * 0.569_840_29;
    0.5 + 2.0 * (phase * 7.390_123).fract()
}
