//! Which path leads where, and what all requests pass on their way.
//!
//! From the outside in: the metrics, the log, heads that keep browsers careful, the shape of the
//! protocol, pages of other origins, keys, the route. A path that is not there and a method that it
//! does not have are answered in OpenAI's shape.

use crate::app::{App, Shared};
use crate::route::{chat, completions, health, models, store, tokens, unknown};
use crate::{anthropic, auth, metrics, origins, page, unique};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use std::time::Instant;

/// What a response is called in the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// All endpoints of a server.
pub fn router(app: Shared) -> Router {
    let with_key = from_fn_with_state(app.clone(), auth::authenticate);
    Router::new()
        .merge(guarded_routes(&app).route_layer(with_key))
        .merge(open_routes())
        .fallback(unknown::not_found)
        .method_not_allowed_fallback(unknown::wrong_method)
        // Bodies have their own limit, which refuses in OpenAI's shape.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(app.clone(), origins::check))
        .layer(from_fn(anthropic::in_shape))
        .layer(from_fn_with_state(app.clone(), observe))
        .layer(from_fn_with_state(app.clone(), metrics::observe))
        .with_state(app)
}

/// Routes for those who have a key, where keys are asked for.
fn guarded_routes(app: &Shared) -> Router<Shared> {
    let mut routes = Router::new();
    for base in ["", "/v1"] {
        routes = routes
            .route(&format!("{base}/chat/completions"), post(chat::chat))
            .route(&format!("{base}/completions"), post(completions::completions))
            .route(&format!("{base}/models"), get(models::models))
            .route(&format!("{base}/models/{{*name}}"), get(models::model));
    }
    for base in ["/beta", "/beta/v1"] {
        routes = routes
            .route(&format!("{base}/chat/completions"), post(chat::chat_beta))
            .route(&format!("{base}/completions"), post(completions::completions))
            .route(&format!("{base}/models"), get(models::models))
            .route(&format!("{base}/models/{{*name}}"), get(models::model));
    }
    routes
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .merge(anthropic::routes())
        .merge(store::store_routes(app))
}

/// Routes for everybody.
fn open_routes() -> Router<Shared> {
    Router::new().route("/health", get(health::health)).merge(page::routes())
}

/// Logs a request, and adds what every response carries.
async fn observe(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let asked = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = next.run(request).await;
    let (status, seconds) = (response.status().as_u16(), asked.elapsed().as_secs_f64());
    let id = unique::name("req_");
    log(&app, || format!("{method} {path} {status} {:.0} ms {id}", seconds * 1e3));
    let headers = response.headers_mut();
    let careful = [
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            match app.settings.origins.is_empty() {
                true => HeaderValue::from_static("same-origin"),
                false => HeaderValue::from_static("cross-origin"),
            },
        ),
    ];
    for (name, value) in careful {
        headers.entry(name).or_insert(value);
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

fn log(app: &App, line: impl FnOnce() -> String) {
    // A path is a client's own words: no line breaks and no control characters in the log.
    app.log(|| line().chars().map(|c| if c.is_control() { '?' } else { c }).collect());
}

#[cfg(test)]
mod tests;
