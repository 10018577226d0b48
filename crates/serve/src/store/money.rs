//! Money as whole numbers, so that a million small charges add up to the last digit.
//!
//! The unit is a millionth of a millionth of the currency. A price per million tokens with six decimals
//! is a whole number of it per token, and a million of the currency fits nine times into 64 bits.

use std::fmt;

/// Parts of one unit of the currency.
const PARTS: i64 = 1_000_000_000_000;

/// Decimals that [`PARTS`] has room for.
const N_DECIMALS: usize = 12;

/// Parts per token of a price of 1 per million tokens.
const PARTS_PER_TOKEN: i64 = PARTS / 1_000_000;

/// A sum, in millionths of a millionth of the currency. May be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Money(i64);

impl Money {
    /// Nothing.
    pub const ZERO: Money = Money(0);

    /// The largest sum that is taken from outside, and the largest balance: a million.
    pub const MOST: Money = Money(1_000_000 * PARTS);

    /// From the number that is stored.
    pub fn from_parts(parts: i64) -> Money {
        Money(parts)
    }

    /// The number that is stored.
    pub fn parts(self) -> i64 {
        self.0
    }

    /// Understands `5`, `5.00`, `0.000000000001`.
    ///
    /// Errors: no plain decimal number, more than twelve decimals, or more than a million.
    pub fn parse(text: &str) -> Result<Money, MoneyError> {
        let bad = || MoneyError::NotANumber { found: text.chars().take(40).collect() };
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let is_digits = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
        if !is_digits(whole) || !is_digits(decimals) {
            return Err(bad());
        }
        let decimals = decimals.trim_end_matches('0');
        if decimals.len() > N_DECIMALS {
            return Err(MoneyError::TooFine { found: text.to_owned(), n_decimals: N_DECIMALS });
        }
        let too_much = || MoneyError::TooMuch { found: text.chars().take(40).collect() };
        let whole = whole.trim_start_matches('0');
        if whole.len() > 7 {
            return Err(too_much());
        }
        let units: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| bad())? };
        let decimals: i64 = format!("{decimals:0<N_DECIMALS$}").parse().map_err(|_| bad())?;
        let sum = Money(units * PARTS + decimals);
        if sum > Money::MOST { Err(too_much()) } else { Ok(sum) }
    }

    /// All decimals, at least two: `0.28`, `-0.0000015`.
    pub fn exact(self) -> String {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (units, decimals) =
            (self.0.unsigned_abs() / PARTS as u64, self.0.unsigned_abs() % PARTS as u64);
        let decimals = format!("{decimals:0N_DECIMALS$}");
        let kept = decimals.trim_end_matches('0').len().max(2);
        format!("{sign}{units}.{}", &decimals[..kept])
    }

    /// Two decimals, rounded down: nobody is shown more than there is.
    pub fn rounded_down(self) -> String {
        let cents = self.0.div_euclid(PARTS / 100);
        let sign = if cents < 0 { "-" } else { "" };
        format!("{sign}{}.{:02}", cents.unsigned_abs() / 100, cents.unsigned_abs() % 100)
    }

    /// The sum of both, at the ends of the range if it does not fit.
    #[must_use]
    pub fn plus(self, other: Money) -> Money {
        Money(self.0.saturating_add(other.0))
    }

    /// The difference, at the ends of the range if it does not fit.
    #[must_use]
    pub fn minus(self, other: Money) -> Money {
        Money(self.0.saturating_sub(other.0))
    }
}

/// What a token costs. Typed and shown per million tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(i64);

impl Rate {
    /// The highest: 10,000 per million tokens.
    pub const MOST: Rate = Rate(10_000 * PARTS_PER_TOKEN);

    /// From the number that is stored: money per token.
    pub fn from_parts(parts: i64) -> Rate {
        Rate(parts)
    }

    /// The number that is stored: money per token.
    pub fn parts(self) -> i64 {
        self.0
    }

    /// Understands a price per million tokens, such as `0.28`.
    ///
    /// Errors: no plain decimal number, more than six decimals, or more than 10,000.
    pub fn parse(text: &str) -> Result<Rate, MoneyError> {
        let per_million = Money::parse(text)?;
        if per_million.0 % 1_000_000 != 0 {
            return Err(MoneyError::TooFine { found: text.to_owned(), n_decimals: 6 });
        }
        let rate = Rate(per_million.0 / 1_000_000);
        if rate > Rate::MOST {
            return Err(MoneyError::RateTooHigh { found: text.to_owned() });
        }
        Ok(rate)
    }

    /// Per million tokens, with all decimals.
    pub fn exact(self) -> String {
        Money(self.0.saturating_mul(1_000_000)).exact()
    }

    /// What so many tokens cost, at most [`Money::MOST`].
    pub fn times(self, n_tokens: usize) -> Money {
        let parts = i128::from(self.0) * n_tokens as i128;
        Money(i64::try_from(parts).unwrap_or(i64::MAX).min(Money::MOST.0))
    }
}

/// The code of a currency: three capital letters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Currency(String);

impl Currency {
    /// Understands `USD`, also `usd`.
    ///
    /// Errors: not three letters.
    pub fn parse(text: &str) -> Result<Currency, MoneyError> {
        if text.len() != 3 || !text.bytes().all(|b| b.is_ascii_alphabetic()) {
            return Err(MoneyError::NotACurrency { found: text.chars().take(40).collect() });
        }
        Ok(Currency(text.to_ascii_uppercase()))
    }

    /// As it was stored, which was checked then.
    pub(super) fn stored(text: String) -> Currency {
        Currency(text)
    }

    /// The letters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Currency {
    fn default() -> Currency {
        Currency("USD".to_owned())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no sum of money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoneyError {
    /// No plain decimal number.
    NotANumber { found: String },
    /// More decimals than are kept.
    TooFine { found: String, n_decimals: usize },
    /// More than [`Money::MOST`].
    TooMuch { found: String },
    /// More than [`Rate::MOST`].
    RateTooHigh { found: String },
    /// Not three letters.
    NotACurrency { found: String },
}

impl fmt::Display for MoneyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MoneyError::NotANumber { found } => {
                write!(f, "expected a sum such as `5.00`, found {found:?}")
            }
            MoneyError::TooFine { found, n_decimals } => {
                write!(f, "at most {n_decimals} decimals are kept, found `{found}`")
            }
            MoneyError::TooMuch { found } => write!(f, "the most is 1000000, found `{found}`"),
            MoneyError::RateTooHigh { found } => {
                write!(f, "the most is 10000 per million tokens, found `{found}`")
            }
            MoneyError::NotACurrency { found } => {
                write!(f, "expected a currency such as `USD` or `CNY`, found {found:?}")
            }
        }
    }
}

impl std::error::Error for MoneyError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_survive_text_and_back() {
        for (text, exact, shown) in [
            ("5", "5.00", "5.00"),
            ("0.28", "0.28", "0.28"),
            ("00.0280", "0.028", "0.02"),
            ("0.000000000001", "0.000000000001", "0.00"),
            ("1000000", "1000000.00", "1000000.00"),
        ] {
            let sum = Money::parse(text).unwrap();
            assert_eq!((sum.exact().as_str(), sum.rounded_down().as_str()), (exact, shown));
            assert_eq!(Money::parse(exact), Ok(sum));
        }
        let debt = Money::ZERO.minus(Money::parse("0.001").unwrap());
        assert_eq!((debt.exact().as_str(), debt.rounded_down().as_str()), ("-0.001", "-0.01"));
        assert_eq!(Money::from_parts(i64::MIN).exact(), "-9223372.036854775808");
    }

    #[test]
    fn what_is_no_sum_is_refused() {
        for text in ["", "-1", "+1", "1e3", ".5", "5.", "1,5", "0x1", "١", " 1", "1.2.3", "nan"] {
            assert!(matches!(Money::parse(text), Err(MoneyError::NotANumber { .. })), "{text:?}");
        }
        assert!(matches!(Money::parse("0.0000000000001"), Err(MoneyError::TooFine { .. })));
        for text in ["1000000.01", "99999999999999999999999", "10000000"] {
            assert!(matches!(Money::parse(text), Err(MoneyError::TooMuch { .. })), "{text}");
        }
        assert!(matches!(Rate::parse("0.0000001"), Err(MoneyError::TooFine { .. })));
        assert!(matches!(Rate::parse("10000.1"), Err(MoneyError::RateTooHigh { .. })));
        assert!(Currency::parse("US").is_err() && Currency::parse("€€€").is_err());
        assert_eq!(Currency::parse("cny").unwrap().as_str(), "CNY");
    }

    #[test]
    fn a_rate_times_tokens_is_exact_and_bounded() {
        let rate = Rate::parse("0.028").unwrap();
        assert_eq!((rate.parts(), rate.exact().as_str()), (28_000, "0.028"));
        assert_eq!(rate.times(1_000_000), Money::parse("0.028").unwrap());
        assert_eq!(rate.times(1), Money::parse("0.000000028").unwrap());
        assert_eq!(Rate::MOST.times(usize::MAX), Money::MOST);
    }
}
