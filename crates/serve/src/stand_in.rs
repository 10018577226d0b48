//! Empty rooms that hold a place until their owners move in.

pub mod grammar {
    //! Stand-in.
    use crate::ask::{Format, ToolChoice};
    use crate::refusal::Refusal;
    use fathom_engine::service::Constraint;
    use fathom_text::Tokenizer;
    use fathom_text::chat::Json;

    /// Stand-in.
    pub struct Grammars;

    /// Stand-in.
    pub struct Wanted<'a> {
        /// Stand-in.
        pub format: &'a Format,
        /// Stand-in.
        pub tools: &'a [Json],
        /// Stand-in.
        pub tool_choice: &'a ToolChoice,
        /// Stand-in.
        pub parallel: bool,
        /// Stand-in.
        pub call_style: CallStyle,
        /// Stand-in.
        pub in_thinking: bool,
    }

    /// Stand-in.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum CallStyle {
        /// Stand-in.
        V3,
        /// Stand-in.
        V31,
        /// Stand-in.
        Json,
    }

    impl CallStyle {
        /// Stand-in.
        pub fn of(renderer: &fathom_text::ChatRenderer, _: &Tokenizer) -> CallStyle {
            match renderer.format() {
                Some(fathom_text::ChatFormat::V31) => CallStyle::V31,
                _ => CallStyle::V3,
            }
        }
    }

    /// Stand-in.
    pub fn told<'c>(
        conversation: &'c fathom_text::Conversation,
        _: &fathom_text::ChatRenderer,
        _: CallStyle,
    ) -> std::borrow::Cow<'c, fathom_text::Conversation> {
        std::borrow::Cow::Borrowed(conversation)
    }

    /// Stand-in.
    pub struct JsonCalls;

    impl JsonCalls {
        /// Stand-in.
        #[allow(clippy::new_without_default)]
        pub fn new() -> JsonCalls {
            JsonCalls
        }
        /// Stand-in.
        pub fn push(&mut self, text: &str) -> Vec<fathom_text::reply::CallEvent> {
            vec![fathom_text::reply::CallEvent::Text(text.to_owned())]
        }
        /// Stand-in.
        pub fn finish(self) -> Vec<fathom_text::reply::CallEvent> {
            Vec::new()
        }
    }

    /// Stand-in.
    pub fn check_strict_tool(_: Option<&Json>, _: &str) -> Result<(), Refusal> {
        Ok(())
    }

    impl Grammars {
        /// Stand-in.
        pub fn new(_: &Tokenizer, _: usize, _: &[u32]) -> Result<Grammars, String> {
            Ok(Grammars)
        }

        /// Stand-in.
        pub fn constraint(&self, _: &Wanted) -> Result<Option<Box<dyn Constraint>>, Refusal> {
            Ok(None)
        }
    }

    /// Stand-in.
    pub fn check_schema(_: &serde_json::Value) -> Result<(), Refusal> {
        Ok(())
    }
}

pub mod store {
    //! Stand-in.
    use crate::answer::Usage;
    use crate::caller::Caller;

    /// Stand-in.
    pub struct Store;

    impl Store {
        /// Stand-in.
        pub fn in_memory() -> Result<Store, String> {
            Ok(Store)
        }

        /// Stand-in.
        pub fn charge(&self, _: Caller, _: &Usage, _: &str) -> Result<(), String> {
            Ok(())
        }
    }
}

pub mod metrics {
    //! Stand-in.
    use crate::answer::Usage;

    /// Stand-in.
    #[derive(Default)]
    pub struct Metrics;

    impl Metrics {
        /// Stand-in.
        pub fn request(&self, _: &str, _: u16, _: f64) {}
        /// Stand-in.
        pub fn first_token(&self, _: f64) {}
        /// Stand-in.
        pub fn between_tokens(&self, _: f64) {}
        /// Stand-in.
        pub fn queue_wait(&self, _: f64) {}
        /// Stand-in.
        pub fn usage(&self, _: &Usage) {}
    }
}

pub mod auth {
    //! Stand-in.
    use crate::app::Shared;
    use crate::caller::Caller;
    use axum::extract::{Request, State};
    use axum::middleware::Next;
    use axum::response::Response;

    /// Stand-in.
    pub async fn authenticate(
        State(_): State<Shared>,
        mut request: Request,
        next: Next,
    ) -> Response {
        request.extensions_mut().insert(Caller::default());
        next.run(request).await
    }
}
