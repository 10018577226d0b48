//! Figures of a step as people read them.

use fathom_train::metrics::name;

/// How a figure is called and written.
struct Form {
    figure: &'static str,
    title: &'static str,
    write: fn(f64) -> String,
}

/// The figures that have a place on the screen beside the main one, in this order.
const SHOWN: &[Form] = &[
    Form { figure: name::ACCURACY, title: "accuracy", write: share },
    Form { figure: name::RESPONSE_TOKENS, title: "tokens/answer", write: tenth },
    Form { figure: name::FORMAT, title: "format", write: share },
    Form { figure: name::LANGUAGE_CONSISTENCY, title: "one language", write: share },
    Form { figure: name::TRUNCATED, title: "truncated", write: share },
    Form { figure: name::MTP_LOSS, title: "mtp loss", write: fine },
    Form { figure: name::HELD_OUT_LOSS, title: "held-out loss", write: fine },
    Form { figure: name::BITS_PER_BYTE, title: "bits/byte", write: fine },
    Form { figure: name::EXPERT_LOAD, title: "busiest expert ×", write: hundredth },
    Form { figure: name::EXPERT_LOAD_WITHOUT_BIAS, title: "without bias ×", write: hundredth },
    Form { figure: name::KL, title: "kl", write: fine },
    Form { figure: name::ENTROPY, title: "entropy", write: fine },
];

/// The main figure first, then those of [`SHOWN`], each as title and value.
pub(super) fn shown(figures: &[(String, f64)]) -> Vec<(String, String)> {
    let Some((main, value)) = figures.first() else { return Vec::new() };
    let mut shown = vec![(title(main), written(main, *value))];
    for form in SHOWN.iter().filter(|form| form.figure != main) {
        if let Some((_, value)) = figures.iter().find(|(name, _)| name == form.figure) {
            shown.push((form.title.to_owned(), (form.write)(*value)));
        }
    }
    shown
}

/// The name of a figure for people.
pub(super) fn title(figure: &str) -> String {
    let known = SHOWN.iter().find(|form| form.figure == figure);
    known.map_or_else(|| figure.replace('_', " "), |form| form.title.to_owned())
}

fn written(figure: &str, value: f64) -> String {
    if figure.starts_with("pass@") || figure.starts_with("maj@") {
        return share(value);
    }
    let form = SHOWN.iter().find(|form| form.figure == figure);
    form.map_or(fine as fn(f64) -> String, |form| form.write)(value)
}

fn share(value: f64) -> String {
    format!("{:.1} %", value * 100.0)
}

fn tenth(value: f64) -> String {
    format!("{value:.1}")
}

fn hundredth(value: f64) -> String {
    format!("{value:.2}")
}

fn fine(value: f64) -> String {
    format!("{value:.3}")
}

/// A rate of tokens: 950, 12.4k.
pub(super) fn rate(tokens_per_s: f64) -> String {
    match tokens_per_s {
        rate if !rate.is_finite() => "?".into(),
        rate if rate < 1e3 => format!("{rate:.0} tokens/s"),
        rate if rate < 1e5 => format!("{:.1}k tokens/s", rate / 1e3),
        rate => format!("{:.0}k tokens/s", rate / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_figure_comes_first_and_the_dull_ones_not_at_all() {
        let figures = [("reward", 1.25), ("loss", 0.0), ("kl", 0.5), ("accuracy", 0.5)]
            .map(|(name, value)| (name.to_owned(), value));
        let shown = shown(&figures);
        let text: Vec<String> =
            shown.iter().map(|(title, value)| format!("{title} {value}")).collect();
        assert_eq!(text, ["reward 1.250", "accuracy 50.0 %", "kl 0.500"]);
    }

    #[test]
    fn rates_keep_three_digits() {
        assert_eq!(
            [950.2, 12_440.0, 123_456.0].map(rate),
            ["950 tokens/s", "12.4k tokens/s", "123k tokens/s"]
        );
    }
}
