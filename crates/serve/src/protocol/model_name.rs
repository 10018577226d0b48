//! Names of the model: its own, and those of DeepSeek's service for its two modes.

use crate::refusal::Refusal;
use crate::served::{Served, Thinking};

/// DeepSeek's name for a model that answers at once.
pub(crate) const CHAT: &str = "deepseek-chat";
/// DeepSeek's name for a model that thinks first.
pub(crate) const REASONER: &str = "deepseek-reasoner";

/// All names that are accepted, the model's own first.
pub(crate) fn names(served: &Served) -> Vec<&str> {
    let mut names = vec![served.name.as_str(), CHAT];
    if served.thinking != Thinking::Never {
        names.push(REASONER);
    }
    names
}

/// Whether a name asks for thinking; none for the model's own name.
///
/// Errors: 404 for another model.
pub(crate) fn thinking_of(served: &Served, name: &str) -> Result<Option<bool>, Refusal> {
    let names = names(served);
    match names.iter().position(|known| *known == name) {
        Some(0) => Ok(None),
        Some(_) => Ok(Some(name == REASONER)),
        None => {
            let known = super::fields::quoted(&names);
            let message = format!("there is no model `{name}` here\nhint: ask for one of {known}");
            let refusal = Refusal { param: Some("model".into()), ..Refusal::not_found(message) };
            Err(refusal.code("model_not_found"))
        }
    }
}
