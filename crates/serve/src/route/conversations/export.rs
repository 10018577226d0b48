//! A conversation as a file: JSON with all branches, or the branch that is shown as Markdown.

use super::{Id, Pairs, in_background, read_path, read_query, thread};
use crate::caller::Caller;
use crate::refusal::Refusal;
use crate::store::{Message, Store, Thread};
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

/// Letters of a file's name.
const MAX_NAME_CHARS: usize = 60;

pub(super) async fn export(
    State(store): State<Arc<Store>>,
    Extension(caller): Extension<Caller>,
    id: Id,
    query: Pairs,
) -> Result<Response, Refusal> {
    let [format] = read_query(query, ["format"])?;
    let format = format.unwrap_or_else(|| "json".into());
    let (kind, end) = match format.as_str() {
        "json" => ("application/json", "json"),
        "markdown" => ("text/markdown; charset=utf-8", "md"),
        other => {
            let message = format!("`format` must be `json` or `markdown`, found {other:?}");
            return Err(Refusal::invalid("format", message));
        }
    };
    let id = read_path(id)?;
    let found = in_background(move || store.conversation(caller.owner, &id)).await?;
    let text = if end == "md" { markdown(&found) } else { pretty(&found) };
    let place = disposition(&found.summary.title, end);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_DISPOSITION, place),
    ];
    Ok((headers, text).into_response())
}

fn pretty(found: &Thread) -> String {
    let value = thread(found);
    serde_json::to_string_pretty(&value).unwrap_or_else(|_| value.to_string()) + "\n"
}

/// The branch that ends at the head, or at the last message if there is no head.
fn markdown(thread: &Thread) -> String {
    let title = thread.summary.title.split_whitespace().collect::<Vec<_>>().join(" ");
    let title = if title.is_empty() { "Conversation".to_owned() } else { title };
    let mut text = format!("# {title}\n");
    for message in branch(thread) {
        // Writing into a string cannot fail.
        let _ = write!(text, "\n## {}\n", speaker(&message.role));
        if let Some(reasoning) = message.reasoning.as_deref().filter(|r| !r.trim().is_empty()) {
            text.push('\n');
            for line in reasoning.trim().lines() {
                let _ = writeln!(text, "{}", format!("> {line}").trim_end());
            }
        }
        let _ = write!(text, "\n{}\n", message.content.trim_end());
    }
    text
}

fn branch(thread: &Thread) -> Vec<&Message> {
    let by_id: BTreeMap<&str, &Message> =
        thread.messages.iter().map(|message| (message.id.as_str(), message)).collect();
    let head = thread.head.as_deref().and_then(|head| by_id.get(head).copied());
    let mut at = head.or(thread.messages.last());
    let mut branch = Vec::new();
    // A tree cannot be deeper than it has messages; a damaged file shall not make this endless.
    while let Some(message) = at.filter(|_| branch.len() < thread.messages.len()) {
        branch.push(message);
        at = message.parent.as_deref().and_then(|parent| by_id.get(parent).copied());
    }
    branch.reverse();
    branch
}

fn speaker(role: &str) -> &str {
    match role {
        "user" => "User",
        "assistant" => "Assistant",
        "system" => "System",
        "tool" => "Tool",
        other => other,
    }
}

/// The header that names the file: once in ASCII for all programs, once as it is (RFC 6266).
fn disposition(title: &str, end: &str) -> HeaderValue {
    let name = file_name(title);
    let ascii: String = name.chars().filter(char::is_ascii).collect();
    let ascii = ascii.trim_matches(['-', '.', ' ']);
    let ascii = if ascii.is_empty() { "conversation" } else { ascii };
    let mut value = format!("attachment; filename=\"{ascii}.{end}\"");
    if !name.is_ascii() {
        value.push_str("; filename*=UTF-8''");
        for byte in name.bytes() {
            if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
                value.push(char::from(byte));
            } else {
                let _ = write!(value, "%{byte:02X}");
            }
        }
        let _ = write!(value, ".{end}");
    }
    HeaderValue::from_str(&value).unwrap_or(HeaderValue::from_static("attachment"))
}

/// Letters and digits of the title, with `-` for whatever stands between them: no folder, no hidden file,
/// no quote.
fn file_name(title: &str) -> String {
    let mut name = String::new();
    for c in title.chars() {
        if c.is_alphanumeric() || c == '_' {
            name.push(c);
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
        if name.chars().count() >= MAX_NAME_CHARS {
            break;
        }
    }
    let name = name.trim_end_matches('-');
    if name.is_empty() { "conversation".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Summary;

    fn message(id: &str, parent: Option<&str>, role: &str, content: &str) -> Message {
        Message {
            id: id.into(),
            parent: parent.map(str::to_owned),
            role: role.into(),
            content: content.into(),
            reasoning: None,
            meta: None,
            created_at: 0,
        }
    }

    fn thread(head: Option<&str>, messages: Vec<Message>) -> Thread {
        let summary =
            Summary { id: "c".into(), title: "A\n# b".into(), created_at: 0, updated_at: 0 };
        Thread { summary, head: head.map(str::to_owned), messages }
    }

    #[test]
    fn markdown_is_the_branch_that_is_shown() {
        let mut thinking = message("c", Some("a"), "assistant", "Two.\n");
        thinking.reasoning = Some("One and one\n\nis two.".into());
        let messages = vec![
            message("a", None, "user", "1 + 1?"),
            message("b", Some("a"), "assistant", "Three."),
            thinking,
            message("d", Some("c"), "user", "Sure?"),
        ];
        let expected = "# A # b\n\n## User\n\n1 + 1?\n\n## Assistant\n\n> One and one\n>\n> is two.\n\n\
                        Two.\n";
        assert_eq!(markdown(&thread(Some("c"), messages.clone())), expected);
        assert!(markdown(&thread(None, messages.clone())).ends_with("## User\n\nSure?\n"));
        assert!(markdown(&thread(Some("b"), messages)).ends_with("Three.\n"));
        assert_eq!(markdown(&thread(None, Vec::new())), "# A # b\n");
    }

    #[test]
    fn a_circle_in_a_damaged_file_ends() {
        let messages =
            vec![message("a", Some("b"), "user", "x"), message("b", Some("a"), "user", "y")];
        assert_eq!(branch(&thread(Some("a"), messages)).len(), 2);
    }

    #[test]
    fn a_title_cannot_choose_a_folder_or_break_the_header() {
        for (title, expected) in [
            ("Hello, World!", r#"attachment; filename="Hello-World.md""#),
            ("../../etc/passwd", r#"attachment; filename="etc-passwd.md""#),
            ("\"; x=\"\r\nSet-Cookie: a", r#"attachment; filename="x-Set-Cookie-a.md""#),
            ("...", r#"attachment; filename="conversation.md""#),
            ("", r#"attachment; filename="conversation.md""#),
            ("CON\0|<>*?:\\", r#"attachment; filename="CON.md""#),
            ("你好 x", r#"attachment; filename="x.md"; filename*=UTF-8''%E4%BD%A0%E5%A5%BD-x.md"#),
        ] {
            assert_eq!(disposition(title, "md").to_str().unwrap(), expected, "{title:?}");
        }
        assert!(file_name(&"é".repeat(500)).chars().count() <= MAX_NAME_CHARS);
    }
}
