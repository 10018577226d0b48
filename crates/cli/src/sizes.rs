//! Sizes and counts as people type and read them.

/// Bytes from `24GiB`, `800MB`, `1.5 TB` or a plain number, in any case.
///
/// Units with an `i` are powers of 1024, others of 1000; the `B` may be left out. Parts of a byte
/// are dropped.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = number_and_unit(text)?;
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let (prefix, base) = match unit.strip_suffix('i') {
        Some(prefix) => (prefix, 1024.0),
        None => (unit, 1000f64),
    };
    let power = match prefix {
        "" if base == 1000.0 => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(format!("`{text}` has no unit of bytes; write 24GiB, 800MB or a number")),
    };
    whole(text, number * base.powi(power))
}

/// A count from `14.8T`, `500M`, `2e9` or `4096`; K, M, B (or G) and T are powers of 1000.
pub(crate) fn parse_count(text: &str) -> Result<u64, String> {
    let (number, unit) = number_and_unit(text)?;
    let power = match unit.as_str() {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "b" | "g" => 3,
        "t" => 4,
        _ => return Err(format!("`{text}` is no count; write 4096, 500M or 14.8T")),
    };
    whole(text, number * 1000f64.powi(power))
}

/// A rate above zero, such as gigabytes per second.
pub(crate) fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.trim().parse().map_err(|_| format!("`{text}` is no number"))?;
    if rate.is_finite() && rate > 0.0 { Ok(rate) } else { Err(format!("`{text}` is not above 0")) }
}

/// The number at the start of a text, and the rest in lower case.
fn number_and_unit(text: &str) -> Result<(f64, String), String> {
    let text = text.trim();
    let bytes = text.as_bytes();
    let digit = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_digit);
    let mut end = 0;
    while end < bytes.len() {
        match bytes[end] {
            b'0'..=b'9' | b'.' | b'_' => end += 1,
            // An exponent; `2e9` is a number, while an `E` before no digit would be a unit.
            b'e' | b'E' if digit(end + 1) => end += 1,
            _ => break,
        }
    }
    let (number, unit) = text.split_at(end);
    let number: f64 =
        number.replace('_', "").parse().map_err(|_| format!("`{text}` starts with no number"))?;
    Ok((number, unit.trim().to_ascii_lowercase()))
}

/// A number without its fraction, if a u64 can hold it exactly enough.
fn whole(text: &str, number: f64) -> Result<u64, String> {
    // Powers of two up to here are exact, and no machine has more.
    if number < 9.2e18 { Ok(number as u64) } else { Err(format!("`{text}` is too large")) }
}

/// Bytes for people: `688.59 GB`. Decimal units, three to five digits.
pub(crate) fn format_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.995 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.2} {}", UNITS[unit])
}

/// A count for people: `671.03 B`, `350.1 k`, `12`.
pub(crate) fn format_count(n: u64) -> String {
    match n {
        0..1000 => n.to_string(),
        1000..100_000 => format!("{:.1} k", n as f64 / 1e3),
        100_000..1_000_000_000 => format!("{:.2} M", n as f64 / 1e6),
        1_000_000_000..1_000_000_000_000 => format!("{:.2} B", n as f64 / 1e9),
        _ => format!("{:.2} T", n as f64 / 1e12),
    }
}

/// An exact count with its thousands apart: `671,026,419,200`.
pub(crate) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Lines of a table: columns as wide as their widest cell, the first to the left, numbers right.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>], left: &[usize]) -> String {
    let width_of = |i: usize| {
        let cells = rows.iter().filter_map(|row| row.get(i)).map(|cell| cell.chars().count());
        cells.chain([header[i].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width_of).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells
            .enumerate()
            .map(|(i, cell)| match left.contains(&i) {
                true => format!("{cell:<width$}", width = widths[i]),
                false => format!("{cell:>width$}", width = widths[i]),
            })
            .collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut text = line(&mut header.iter().copied());
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_type_them() {
        let cases = [
            ("24GiB", 24 << 30),
            ("24 gib", 24 << 30),
            ("24gi", 24 << 30),
            ("800MB", 800_000_000),
            ("800m", 800_000_000),
            ("1.5 TB", 1_500_000_000_000),
            ("0.5KiB", 512),
            ("4096", 4096),
            ("4_096B", 4096),
            ("1e9", 1_000_000_000),
            ("0", 0),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_its_text() {
        for text in ["", "GiB", "-1", "12 parsecs", "1.2.3", "iB", "5i", "99999999PB", "nan", "∞"]
        {
            let error = parse_bytes(text).unwrap_err();
            assert!(error.starts_with(&format!("`{text}`")), "{error}");
        }
    }

    #[test]
    fn counts_and_rates_are_read() {
        assert_eq!(parse_count("14.8T"), Ok(14_800_000_000_000));
        assert_eq!(parse_count("500m"), Ok(500_000_000));
        assert_eq!(parse_count("2B"), Ok(2_000_000_000));
        assert_eq!(parse_count("4096"), Ok(4096));
        assert!(parse_count("4GiB").is_err());
        assert_eq!(parse_rate(" 12.5"), Ok(12.5));
        assert!(parse_rate("0").is_err() && parse_rate("inf").is_err() && parse_rate("x").is_err());
    }

    #[test]
    fn figures_are_shown_short_or_exact() {
        assert_eq!(format_bytes(999), "999 B");
        assert_eq!(format_bytes(1000), "1.00 kB");
        assert_eq!(format_bytes(999_999), "1.00 MB");
        assert_eq!(format_bytes(688_586_727_753), "688.59 GB");
        assert_eq!(format_count(671_026_419_200), "671.03 B");
        assert_eq!(format_count(351_232), "0.35 M");
        assert_eq!(grouped(671_026_419_200), "671,026,419,200");
        assert_eq!(
            (grouped(0), grouped(999), grouped(1000)),
            ("0".into(), "999".into(), "1,000".into())
        );
    }

    #[test]
    fn a_table_is_as_wide_as_its_cells() {
        let rows = vec![vec!["v3".to_owned(), "671 B".to_owned()]];
        assert_eq!(table(&["preset", "n"], &rows, &[0]), "preset      n\nv3      671 B\n");
    }
}
