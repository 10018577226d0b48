//! What a client should know though it is answered: never silently obeyed, never silently ignored.

use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;

/// Where the warnings stand, besides the body.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-fathom-warning");
/// More fields are counted, not named.
const MOST_NAMED: usize = 16;

/// Sentences about one request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Warnings(pub(crate) Vec<String>);

impl Warnings {
    /// A warning about fields that nobody knows; none if there are none.
    pub(crate) fn about_unknown(unknown: &[String]) -> Warnings {
        if unknown.is_empty() {
            return Warnings::default();
        }
        let named = unknown.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>().join(", ");
        let more = match unknown.len().saturating_sub(MOST_NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Warnings(vec![format!("unknown fields: {named}{more}")])
    }

    pub(crate) fn add(&mut self, warning: impl Into<String>) {
        self.0.push(warning.into());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts the warnings into the head of a response.
    pub(crate) fn mark(&self, mut response: Response) -> Response {
        if let Some(value) = self.header() {
            response.headers_mut().insert(HEADER, value);
        }
        response
    }

    fn header(&self) -> Option<HeaderValue> {
        const MOST_BYTES: usize = 2000;
        if self.is_empty() {
            return None;
        }
        // Heads hold no line breaks and no letters beyond ASCII.
        let plain = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
        let text: String = self.0.join("; ").chars().take(MOST_BYTES).map(plain).collect();
        HeaderValue::from_str(&text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_a_client_cannot_break_the_head() {
        let warnings = Warnings::about_unknown(&["a\r\nset-cookie: x".into(), "ü".into()]);
        assert_eq!(warnings.header().unwrap(), "unknown fields: a??set-cookie: x, ?");
    }

    #[test]
    fn many_unknown_fields_are_counted() {
        let names: Vec<String> = (0..20).map(|n| format!("f{n}")).collect();
        assert!(Warnings::about_unknown(&names).0[0].ends_with("f15 and 4 more"));
        assert!(Warnings::about_unknown(&[]).header().is_none());
    }
}
