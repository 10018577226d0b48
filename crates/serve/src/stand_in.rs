//! Empty rooms that hold a place until their owners move in.

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
