//! One answer under constraint: thinking, then free text, a grammar, or free text that turns into
//! one when a call begins.

use super::large_stack::brief;
use super::vocabulary::{Tokens, cut, cut_from, keep_ids, keep_only};
use super::watch::Watch;
use fathom_engine::service::Constraint;
use llguidance::Matcher;
use std::sync::Arc;

/// What follows the thinking.
pub(super) enum Answer {
    /// Text, until a call begins, which is then held to its grammar.
    Free { watch: Watch, calls: Option<Box<Matcher>> },
    /// A grammar from the first token on.
    Bound(Box<Matcher>),
    /// Nothing: the grammar came to its end.
    Over,
}

/// The constraint of one answer.
pub(super) struct TokenConstraint {
    tokens: Arc<Tokens>,
    /// The thinking that is still going on.
    thinking: Option<Watch>,
    answer: Answer,
    /// The tokens by which the grammar hears of each marker.
    marker_ids: Vec<(&'static str, Vec<u32>)>,
}

impl TokenConstraint {
    pub(super) fn new(
        tokens: Arc<Tokens>,
        thinking: Option<Watch>,
        answer: Answer,
        marker_ids: Vec<(&'static str, Vec<u32>)>,
    ) -> TokenConstraint {
        TokenConstraint { tokens, thinking, answer, marker_ids }
    }

    /// Starts the grammar of calls behind the marker that the model wrote.
    fn begin(&mut self, marker: &'static str) -> Result<(), String> {
        let Answer::Free { calls, .. } = &mut self.answer else { return Ok(()) };
        let Some(mut matcher) = calls.take() else { return Ok(()) };
        let ids = self.marker_ids.iter().find(|(text, _)| *text == marker);
        let ids = ids.map_or(&[][..], |(_, ids)| ids);
        matcher.consume_tokens(ids).map_err(|error| brief(&error))?;
        self.answer = Answer::Bound(matcher);
        Ok(())
    }
}

impl Constraint for TokenConstraint {
    fn allow(&mut self, mask: &mut [u32]) -> Result<(), String> {
        cut_from(mask, self.tokens.n_ids());
        if let Some(thinking) = &self.thinking {
            thinking.cut(mask);
            if !matches!(self.answer, Answer::Free { .. }) {
                self.tokens.stop_ids.iter().for_each(|id| cut(mask, *id));
            }
            return Ok(());
        }
        match &mut self.answer {
            Answer::Free { watch, .. } => watch.cut(mask),
            Answer::Bound(matcher) => {
                let allowed = matcher.compute_mask().map_err(|error| brief(&error))?;
                keep_only(mask, &allowed);
            }
            Answer::Over => keep_ids(mask, &self.tokens.stop_ids),
        }
        Ok(())
    }

    fn accept(&mut self, token: u32) -> Result<(), String> {
        if let Some(thinking) = &mut self.thinking {
            if thinking.push(token) == Some(fathom_text::special::END_THINK) {
                self.thinking = None;
            }
            return Ok(());
        }
        match &mut self.answer {
            Answer::Free { watch, .. } => match watch.push(token) {
                Some(marker) => self.begin(marker),
                None => Ok(()),
            },
            Answer::Bound(matcher) => {
                matcher.consume_token(token).map_err(|error| brief(&error))?;
                if matcher.is_stopped() {
                    self.answer = Answer::Over;
                }
                Ok(())
            }
            Answer::Over if self.tokens.stop_ids.contains(&token) => Ok(()),
            Answer::Over => Err(format!("the answer is complete, but token `{token}` was drawn")),
        }
    }
}
