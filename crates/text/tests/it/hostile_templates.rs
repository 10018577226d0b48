//! Templates that mean harm, or are broken, end in an error that names the file.

use std::time::{Duration, Instant};

use fathom_text::chat::{ChatRenderer, Options, TemplateFile};
use fathom_text::{Error, Message, Result};

use crate::samples::tokenizer;

fn render(text: &str) -> Result<String> {
    let file = TemplateFile {
        path: "dir/evil.jinja".into(),
        text: text.into(),
        ..TemplateFile::default()
    };
    let renderer = ChatRenderer::new(file, tokenizer())?;
    let messages = vec![Message::user("hello"), Message::assistant("a, b")];
    Ok(renderer.prompt(tokenizer(), &messages.into(), &Options::default())?.text)
}

fn check(text: &str, expected: &str) {
    eprintln!("{}", text.chars().take(200).collect::<String>()); // what hangs, if one does
    let start = Instant::now();
    let error = match render(text) {
        Ok(rendered) => panic!("{text} gave {} bytes", rendered.len()),
        Err(error) => error.to_string(),
    };
    assert!(error.contains("dir/evil.jinja") && error.contains(expected), "{text}: {error}");
    assert!(start.elapsed() < Duration::from_secs(20), "{text} took {:?}", start.elapsed());
}

#[test]
fn mistakes_are_named_with_their_line() {
    check("a\n{% if %}", "line 2: syntax error");
    check("a\n\n{{ messages | nonsense }}", "line 3: unknown filter");
    check("{{ messages | tojson }}\n{{ nonsense(1) }}", "line 2: unknown function");
    check("{{ messages[0].content.nonsense() }}", "line 1: unknown method");
    check("{{ messages[0].nothing.more }}", "line 1: undefined value");
    check("{% for m in messages %}", "syntax error");
    check("{%}", "syntax error"); // one `%` both opens and closes
    check("{% generation %}a{%}{% endgeneration %}", "syntax error");
    check("{% include '/etc/passwd' %}", "syntax error");
    check("{% import 'x' as y %}", "syntax error");
    check("{{ raise_exception('not like this') }}", "refuses this conversation: not like this");
    check("{{ messages | tojson(indent=99999999) }}", "too wide");
    let error = render(&"x".repeat(2 << 20)).unwrap_err();
    assert!(matches!(error, Error::TemplateSize { .. }), "{error}");
}

#[test]
fn endless_work_and_output_run_out_of_fuel() {
    let hint = "more steps or writes more text";
    check("{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}", hint);
    check("{% for a in range(99999999) %}x{% endfor %}", "range");
    check(
        "{% set ns = namespace(x='ab') %}{% for a in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
        hint,
    );
    check(
        "{% set ns = namespace(x=[1]) %}{% for a in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
        hint,
    );
    check(
        "{% set ns = namespace(x=[1]) %}{% for a in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | tojson }}",
        hint,
    );
    check(
        "{% set ns = namespace(x=[1]) %}{% for a in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | string }}",
        hint,
    );
    check("{{ [1] * 9999999999 }}", "too large");
    check("{{ 'x' * 9999999999 }}", "line 1");
    check("{{ ('x' * 999999).replace('x', 'y' * 999999) | length }}", hint);
    check("{{ ('x' * 9999999).join(range(99999)) | length }}", hint);
    check("{% for a in range(99999) %}{{ 'x' * 9999 }}{% endfor %}", hint);
    check("{{ '{:9999999999}'.format(1) }}", "wider than 999");
    check("{{ '{:>{}}'.format(1, 9999999999) }}", "wider than 999");
    check("{{ '%9999999999d' | format(1) }}", "wider than 999");
    check("{{ '%*d' | format(9999999999, 1) }}", "wider than 999");
    check("{{ 2 ** 999999999 }}", "line 1");
    check("{{ 'x' | center(9999999999) }}", "line 1");
    check("{{ 'x\n\nx' | indent(9999999999, true, true) }}", hint);
    check("{{ [1] | batch(9999999999, 'x') | list }}", "line 1");
    check("{{ [1] | slice(9999999999) | list }}", "line 1");
    check("{{ ('x' * 999999) | replace('x', 'y' * 999999) | length }}", hint);
    check("{{ (('x,' * 99999).split(',') * 999) | join('x' * 9999) }}", "line 1");
    check("{% for a in range(99999) %}{{ messages | tojson(indent=32) }}{% endfor %}", hint);
}

#[test]
fn deep_recursion_is_refused() {
    check("{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}", "line 1");
    check("{% for m in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}", "line 1");
    check(&("{{ ".to_owned() + &"(".repeat(5000) + "1" + &")".repeat(5000) + " }}"), "line 1");
    let _ = render(&("{{ ".to_owned() + &"not ".repeat(60_000) + "1 }}"));
    let _ = render(&("{{ ".to_owned() + &"-".repeat(250_000) + "1 }}"));
    check(&("{% if true %}".repeat(5000) + &"{% endif %}".repeat(5000)), "line 1");
    check(
        "{% set ns = namespace(x=[]) %}{% for a in range(1000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x | tojson }}",
        "too deep",
    );
    // Values as deep as fuel allows are dropped and shown without harm, whatever comes of it.
    let nested = "{% set ns = namespace(x=[]) %}{% for a in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}";
    let _ = render(nested);
    let _ = render(&format!("{nested}{{{{ ns.x }}}}"));
    let _ = render(&format!("{nested}{{{{ ns.x == [ns.x] }}}}{{{{ [ns.x] | sort }}}}"));
    let _ = render(
        "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}{{ ns == ns }}{{ ns | tojson }}",
    );
    let _ = render("{% set ns = namespace() %}{% set ns.a = [ns] %}{{ ns }}{{ ns | list }}");
}

#[test]
fn broken_pieces_of_templates_never_panic() {
    let pieces = [
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        "'",
        "\"",
        "[",
        "-1]",
        "| tojson",
        "for m in messages",
        "endfor",
        "if",
        "messages",
        ".content",
        "\u{f0000}",
        "\0",
        "raw",
        "set ns.x =",
        "(",
        "~",
        "1e999",
        "**",
        "99999999999999999999",
        "[::0]",
        "generation",
        "<｜User｜>",
    ];
    let mut state = 12345_u64;
    for _ in 0..3000 {
        let mut text = String::new();
        for _ in 0..12 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            text.push_str(pieces[(state >> 33) as usize % pieces.len()]);
            text.push(' ');
        }
        let _ = render(&text);
    }
}
