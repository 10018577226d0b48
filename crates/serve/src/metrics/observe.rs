//! Counts every request, from its head to the last byte of its answer.

use crate::app::Shared;
use crate::guarded::guarded;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Middleware around all routes. A client that goes away before there is an answer counts with status 0,
/// which is shown as `other`.
pub async fn observe(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let route = super::ROUTES[super::route_idx(request.uri().path())];
    app.metrics.n_in_flight.fetch_add(1, Ordering::Relaxed);
    let mut over = Over { app, route, status: 0, began: Instant::now() };
    let response = next.run(request).await;
    over.status = response.status().as_u16();
    guarded(response, over)
}

/// A request; over when this is dropped.
struct Over {
    app: Shared,
    route: &'static str,
    status: u16,
    began: Instant,
}

impl Drop for Over {
    fn drop(&mut self) {
        let metrics = &self.app.metrics;
        metrics.n_in_flight.fetch_sub(1, Ordering::Relaxed);
        metrics.request(self.route, self.status, self.began.elapsed().as_secs_f64());
    }
}
