//! Plain numbers with their dress: sign, thousands, decimals, fractions, percent, currency, units.

/// Groups of names for one unit. Units outside this list are ignored.
const UNITS: &[&[&str]] = &[
    &["mm", "millimeter", "millimeters", "millimetre", "millimetres", "毫米"],
    &["cm", "centimeter", "centimeters", "centimetre", "centimetres", "厘米"],
    &["m", "meter", "meters", "metre", "metres", "米"],
    &["km", "kilometer", "kilometers", "kilometre", "kilometres", "千米", "公里"],
    &["in", "inch", "inches", "英寸"],
    &["ft", "foot", "feet", "英尺"],
    &["yd", "yard", "yards"],
    &["mi", "mile", "miles", "英里"],
    &["g", "gram", "grams", "克"],
    &["kg", "kilogram", "kilograms", "千克", "公斤"],
    &["lb", "lbs", "pound", "pounds", "磅"],
    &["oz", "ounce", "ounces"],
    &["s", "sec", "second", "seconds", "秒"],
    &["min", "minute", "minutes", "分钟"],
    &["h", "hr", "hrs", "hour", "hours", "小时"],
    &["day", "days", "天"],
    &["week", "weeks", "周"],
    &["month", "months", "个月"],
    &["year", "years", "年"],
    &["$", "dollar", "dollars", "usd", "美元"],
    &["cent", "cents", "¢", "美分"],
    &["€", "euro", "euros", "eur"],
    &["£", "gbp"],
    &["¥", "yuan", "rmb", "元", "块"],
];

/// Longest run of digits that is kept exact.
const MAX_DIGITS: usize = 30;

/// An exact fraction, reduced, with a denominator above 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ratio {
    pub(super) numerator: i128,
    pub(super) denominator: i128,
}

impl Ratio {
    /// `None` for a denominator of 0 or at the edge of the range.
    pub(super) fn new(numerator: i128, denominator: i128) -> Option<Self> {
        if denominator == 0 || numerator == i128::MIN || denominator == i128::MIN {
            return None;
        }
        let divisor = gcd(numerator.unsigned_abs(), denominator.unsigned_abs()) as i128;
        let sign = denominator.signum();
        let (numerator, denominator) = (numerator / divisor, denominator / divisor);
        Some(Self { numerator: numerator * sign, denominator: denominator * sign })
    }

    pub(super) fn add(self, other: Self) -> Option<Self> {
        let left = self.numerator.checked_mul(other.denominator)?;
        let right = other.numerator.checked_mul(self.denominator)?;
        Self::new(left.checked_add(right)?, self.denominator.checked_mul(other.denominator)?)
    }

    pub(super) fn mul(self, other: Self) -> Option<Self> {
        Self::new(
            self.numerator.checked_mul(other.numerator)?,
            self.denominator.checked_mul(other.denominator)?,
        )
    }

    pub(super) fn div(self, other: Self) -> Option<Self> {
        self.mul(Self::new(other.denominator, other.numerator)?)
    }

    pub(super) fn to_f64(self) -> f64 {
        self.numerator as f64 / self.denominator as f64
    }
}

fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a.max(1)
}

/// A number as it was written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scalar {
    value: Ratio,
    is_fraction: bool,
    has_percent: bool,
    /// Index in `UNITS`.
    unit: Option<usize>,
}

impl Scalar {
    /// Reads a tidied text that is one number and its dress; `None` for anything else, and for
    /// more digits than are kept exact.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (negative, text) = match text.strip_prefix(['-', '+']) {
            Some(rest) => (text.starts_with('-'), rest),
            None => (false, text),
        };
        let (currency, text) = strip_currency(text);
        // `$-5` as well as `-$5`, once.
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) if currency.is_some() && !negative => (true, rest),
            _ => (negative, text),
        };
        let (text, unit) = strip_unit(text);
        let (text, has_percent) = match text.strip_suffix('%') {
            Some(rest) => (rest.trim_end(), true),
            None => (text, unit == Some(Unit::Percent)),
        };
        let (mut value, is_fraction) = literal(text)?;
        if negative {
            value.numerator = -value.numerator;
        }
        let unit = match unit {
            Some(Unit::Known(idx)) => Some(idx),
            _ => currency,
        };
        Some(Self { value, is_fraction, has_percent, unit })
    }

    /// Equality with a gold number, under the rules in the file header of the checker.
    pub(super) fn equals(&self, gold: &Self) -> bool {
        if let (Some(unit), Some(gold_unit)) = (self.unit, gold.unit)
            && unit != gold_unit
        {
            return false;
        }
        if self.is_fraction && !gold.is_fraction && self.value.denominator == 1 {
            return false; // `6/2` for 3 is a question, not an answer
        }
        let hundredth = |value: Ratio| value.div(Ratio { numerator: 100, denominator: 1 });
        match (self.has_percent, gold.has_percent) {
            (true, false) => self.value == gold.value || hundredth(self.value) == Some(gold.value),
            (false, true) => self.value == gold.value || Some(self.value) == hundredth(gold.value),
            _ => self.value == gold.value,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Known(usize),
    Percent,
    Other,
}

/// Whether the text divides by a literal zero.
pub(super) fn has_zero_denominator(text: &str) -> bool {
    text.contains("}{0}") && text.contains("\\frac")
        || text.strip_suffix("/0").is_some_and(|rest| rest.ends_with(|c: char| c.is_ascii_digit()))
}

/// Takes off a known unit at the end of an expression: `25\pi cm^{2}` gives `25\pi`.
pub(super) fn strip_known_unit(text: &str) -> &str {
    let bare = strip_exponent(text);
    match bare.rsplit_once(' ') {
        Some((number, name)) if unit_index(name).is_some() => number,
        _ => text,
    }
}

fn strip_currency(text: &str) -> (Option<usize>, &str) {
    let marks =
        [("\\$", "$"), ("US$", "$"), ("$", "$"), ("€", "€"), ("£", "£"), ("¥", "¥"), ("￥", "¥")];
    for (mark, name) in marks {
        if let Some(rest) = text.strip_prefix(mark) {
            return (unit_index(name), rest.trim_start());
        }
    }
    (None, text)
}

fn unit_index(name: &str) -> Option<usize> {
    let name = name.to_lowercase();
    UNITS.iter().position(|names| names.contains(&name.as_str()))
}

/// Splits `18 hours`, `5cm^{2}` or `3个苹果` into number and unit. An unknown unit needs a space
/// before it and a word of three letters, a known one of a single letter the space, so that the
/// letters of `2x`, `3xy` and `2 x y z` stay factors.
fn strip_unit(text: &str) -> (&str, Option<Unit>) {
    let bare = strip_exponent(text);
    let is_unit_char = |c: char| (c.is_alphabetic() || "./$€¢-".contains(c)) && !c.is_ascii_digit();
    let mut start = bare.len();
    for (at, c) in bare.char_indices().rev() {
        if !(is_unit_char(c) || c == ' ') {
            break;
        }
        start = at;
    }
    let (number, unit) = (&bare[..start], bare[start..].trim_start_matches('.'));
    let name = unit.trim();
    if name.is_empty() || number.is_empty() || number.ends_with(['\\', '^', '_']) {
        return (text, None);
    }
    let after_space = unit.starts_with(' ');
    let first_word = name.split([' ', '/']).next().unwrap_or(name);
    let known = unit_index(name).or_else(|| unit_index(first_word));
    let longest = name.split(' ').map(|word| word.chars().count()).max().unwrap_or(0);
    let is_cjk = name.chars().any(|c| ('\u{4E00}'..='\u{9FFF}').contains(&c));
    let is_single_letter = name.len() == 1 && name != "$";
    let counts = is_cjk || after_space && longest >= 3 || known.is_some() && !is_single_letter;
    if !(counts || known.is_some() && after_space) {
        return (text, None);
    }
    let unit = match known {
        Some(idx) if name == first_word => Unit::Known(idx),
        _ if ["percent", "per cent"].contains(&name) => Unit::Percent,
        _ => Unit::Other, // speeds and areas: too many spellings to tell apart
    };
    (number.trim_end(), Some(unit))
}

/// Takes `^{2}` or `^{3}` off the end if a word stands before it.
fn strip_exponent(text: &str) -> &str {
    for exponent in ["^{2}", "^{3}"] {
        if let Some(rest) = text.strip_suffix(exponent) {
            let word: String = rest.chars().rev().take_while(|c| c.is_alphabetic()).collect();
            let word: String = word.chars().rev().collect();
            let is_command = rest[..rest.len() - word.len()].ends_with('\\');
            if unit_index(&word).is_some() && !is_command && word.len() > 1 {
                return rest;
            }
        }
    }
    text
}

/// The value of a number without dress, and whether it is written as a fraction.
fn literal(text: &str) -> Option<(Ratio, bool)> {
    if let Some(value) = decimal(text) {
        return Some((value, false));
    }
    if let Some((mantissa, exponent)) = scientific(text) {
        return Some((mantissa.mul(exponent)?, false));
    }
    if let Some((whole, part)) = mixed(text) {
        return Some((whole.add(part)?, true));
    }
    simple_fraction(text).map(|value| (value, true))
}

/// `1,234.50`, `.5`, `7.`, `1 234 567`.
pub(super) fn decimal(text: &str) -> Option<Ratio> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = ungroup(whole)?;
    if digits.len() + part.len() > MAX_DIGITS || digits.is_empty() && part.is_empty() {
        return None;
    }
    if !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let numerator: i128 = format!("0{digits}{part}").parse().ok()?;
    Ratio::new(numerator, 10_i128.checked_pow(part.len() as u32)?)
}

/// Digits with groups of three after commas or spaces removed; `None` for other text.
fn ungroup(text: &str) -> Option<String> {
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    for separator in [',', ' '] {
        if !text.contains(separator) {
            continue;
        }
        let mut groups = text.split(separator);
        let first = groups.next()?;
        let fits = (1..=3).contains(&first.len()) && is_digits(first);
        return (fits && groups.all(|group| group.len() == 3 && is_digits(group)))
            .then(|| text.replace(separator, ""));
    }
    is_digits(text).then(|| text.to_string())
}

/// `1.2*10^{3}` and `1.2e3`, up to a power of 20.
fn scientific(text: &str) -> Option<(Ratio, Ratio)> {
    let (mantissa, exponent) = match text.split_once("*10^{") {
        Some((mantissa, rest)) => (mantissa, rest.strip_suffix('}')?),
        None => text.split_once(['e', 'E'])?,
    };
    let exponent: i32 = exponent.parse().ok()?;
    if exponent.unsigned_abs() > 20 {
        return None;
    }
    let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
    let power = if exponent < 0 { Ratio::new(1, power) } else { Ratio::new(power, 1) }?;
    Some((decimal(mantissa)?, power))
}

/// `3 1/2` and `3\frac{1}{2}`.
fn mixed(text: &str) -> Option<(Ratio, Ratio)> {
    let at = text.find("\\frac").or_else(|| text.rfind(' '))?;
    let (whole, part) = (text[..at].trim(), text[at..].trim());
    if whole.is_empty() || !whole.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((decimal(whole)?, simple_fraction(part)?))
}

/// `a/b` and `\frac{a}{b}` of decimals with optional signs.
fn simple_fraction(text: &str) -> Option<Ratio> {
    let (top, bottom) = match text.strip_prefix("\\frac{") {
        Some(rest) => rest.strip_suffix('}')?.split_once("}{")?,
        None => text.split_once('/')?,
    };
    let signed = |text: &str| match text.strip_prefix('-') {
        Some(rest) => {
            decimal(rest).and_then(|value| Ratio::new(-value.numerator, value.denominator))
        }
        None => decimal(text),
    };
    signed(top)?.div(signed(bottom)?)
}
