//! Keys, prices and usage as a person reads them, and as JSON. Names come from a file, so what steers a
//! terminal is taken out of them.

use crate::terminal::harmless;
use fathom_serve::store::{Key, Money, PriceRow, UsageRow};
use serde_json::{Value, json};

/// A table of keys.
pub(super) fn keys(keys: &[Key]) -> String {
    let head = ["NAME", "KEY", "MADE", "BALANCE", "LIMITS"];
    let rows = keys.iter().map(|key| {
        let state = match (key.revoked_at, &key.balance) {
            (Some(at), _) => format!("revoked {}", day(at)),
            (None, Some(balance)) => format!("{} {}", balance.total().exact(), key.currency),
            (None, None) => "-".to_owned(),
        };
        [key.name.clone(), format!("{}…", key.prefix), day(key.created_at), state, limits(key)]
    });
    table(head, rows)
}

/// A table of prices.
pub(super) fn prices(rows: &[PriceRow]) -> String {
    let head = ["MODEL", "INPUT", "CACHED", "OUTPUT", "PER MILLION"];
    let rows = rows.iter().map(|row| {
        let model = row.model.clone().unwrap_or_else(|| "(any)".into());
        let prices = &row.prices;
        let currency = row.currency.to_string();
        [model, prices.input.exact(), prices.cached.exact(), prices.output.exact(), currency]
    });
    table(head, rows)
}

/// A table of usage, and the sums of each currency if there are several rows.
pub(super) fn usage(rows: &[UsageRow]) -> String {
    let head = ["KEY", "MODEL", "ANSWERS", "CACHED", "READ", "WRITTEN", "COST"];
    let shown = rows.iter().map(|row| {
        [
            row.key.clone().unwrap_or_else(|| "(none)".into()),
            row.model.clone(),
            row.n_answers.to_string(),
            row.cache_hit_tokens.to_string(),
            row.cache_miss_tokens.to_string(),
            row.completion_tokens.to_string(),
            format!("{} {}", row.cost.exact(), row.currency),
        ]
    });
    let mut text = table(head, shown);
    let mut currencies: Vec<_> = rows.iter().map(|row| &row.currency).collect();
    currencies.sort();
    currencies.dedup();
    for currency in currencies.into_iter().filter(|_| rows.len() > 1) {
        let costs = rows.iter().filter(|row| row.currency == *currency).map(|row| row.cost);
        let total = costs.fold(Money::ZERO, Money::plus);
        text.push_str(&format!("in all {} {currency}\n", total.exact()));
    }
    text
}

/// A key as JSON. Sums are strings with all decimals, times are seconds since 1970.
pub(super) fn key_json(key: &Key) -> Value {
    let balance = key.balance.map(|balance| {
        json!({
            "granted": balance.granted.exact(),
            "topped_up": balance.topped_up.exact(),
            "total": balance.total().exact(),
        })
    });
    json!({
        "name": key.name,
        "prefix": key.prefix,
        "created_at": key.created_at.div_euclid(1000),
        "revoked_at": key.revoked_at.map(|at| at.div_euclid(1000)),
        "currency": key.currency.as_str(),
        "balance": balance,
        "requests_per_minute": key.limits.requests_per_minute,
        "tokens_per_minute": key.limits.tokens_per_minute,
        "concurrent": key.limits.concurrent,
    })
}

/// Prices as JSON, per million tokens.
pub(super) fn price_json(row: &PriceRow) -> Value {
    json!({
        "model": row.model,
        "currency": row.currency.as_str(),
        "input": row.prices.input.exact(),
        "cached": row.prices.cached.exact(),
        "output": row.prices.output.exact(),
    })
}

/// Usage as JSON.
pub(super) fn usage_json(row: &UsageRow) -> Value {
    json!({
        "key": row.key,
        "model": row.model,
        "answers": row.n_answers,
        "prompt_cache_hit_tokens": row.cache_hit_tokens,
        "prompt_cache_miss_tokens": row.cache_miss_tokens,
        "completion_tokens": row.completion_tokens,
        "cost": row.cost.exact(),
        "currency": row.currency.as_str(),
    })
}

fn limits(key: &Key) -> String {
    let limits = [
        (key.limits.requests_per_minute, "requests/min"),
        (key.limits.tokens_per_minute, "tokens/min"),
        (key.limits.concurrent, "at a time"),
    ];
    let said: Vec<String> =
        limits.iter().filter_map(|(n, what)| n.map(|n| format!("{n} {what}"))).collect();
    if said.is_empty() { "-".into() } else { said.join(", ") }
}

/// Columns as wide as their widest cell, the last as long as it likes.
fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let head = head.map(str::to_owned);
    let rows: Vec<[String; N]> =
        std::iter::once(head).chain(rows).map(|row| row.map(|cell| one_line(&cell))).collect();
    let width = |column: usize| {
        rows.iter().map(|row| unicode_width::UnicodeWidthStr::width(row[column].as_str())).max()
    };
    let widths: Vec<usize> = (0..N).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let room = width - unicode_width::UnicodeWidthStr::width(cell.as_str());
            line.push_str(cell);
            line.push_str(&" ".repeat(room + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Models are called what clients call them.
fn one_line(cell: &str) -> String {
    harmless(cell).replace(['\n', '\t'], " ")
}

/// The day of a time in milliseconds since 1970, in UTC: `2026-01-31`.
fn day(ms: i64) -> String {
    // Howard Hinnant, `civil_from_days`: years that begin in March, eras of 400 years.
    let days = ms.div_euclid(86_400_000) + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_798_761_599, "2026-12-31"),
            (-1, "1969-12-31"),
        ] {
            assert_eq!(day(seconds * 1000), expected);
        }
    }

    #[test]
    fn a_table_lines_up_and_steers_no_terminal() {
        let rows = [["你好".to_owned(), "1".to_owned()], ["\x1b[2Jx".to_owned(), "23".to_owned()]];
        let text = table(["NAME", "N"], rows.into_iter());
        assert_eq!(text, "NAME   N\n你好   1\n\u{fffd}[2Jx  23\n");
    }
}
