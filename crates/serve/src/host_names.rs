//! Names by which a server on this machine alone may be called.
//!
//! A page can bring a browser to take a name of the page's own domain for 127.0.0.1 (DNS rebinding);
//! its requests are then of the same origin, and only the `Host` they carry tells that they are
//! foreign.

use crate::refusal::Refusal;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;
use std::sync::Arc;

/// Refuses requests to a host that is neither this machine nor one of `allowed`.
pub(crate) async fn check(
    State(allowed): State<Arc<[String]>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(host) = request.headers().get(header::HOST) else {
        // Only programs of the last century leave it out, and no browser.
        return next.run(request).await;
    };
    let host = String::from_utf8_lossy(host.as_bytes());
    match is_this_machine(&host) || allowed.iter().any(|name| is_named(&host, name)) {
        true => next.run(request).await,
        false => {
            let message = format!(
                "this server listens to its own machine alone, which is not called `{host}`\n\
                 hint: ask `localhost`, or allow the name by `--allow-host`"
            );
            let refusal = Refusal::new(StatusCode::FORBIDDEN, "permission_error", message);
            refusal.code("host_not_allowed").into_response()
        }
    }
}

/// Whether a `Host`, with or without a port, can only mean this machine.
fn is_this_machine(host: &str) -> bool {
    let name = without_port(host).to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    if name == "localhost" || name.ends_with(".localhost") {
        return true;
    }
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    address.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

fn is_named(host: &str, name: &str) -> bool {
    name == "*" || host.eq_ignore_ascii_case(name) || without_port(host).eq_ignore_ascii_case(name)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            // A bare IPv6 address has colons and no port.
            if name.contains(':') && !name.ends_with(']') { host } else { name }
        }
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_and_addresses_of_this_machine_are_this_machine() {
        for host in [
            "localhost",
            "LocalHost:8000",
            "app.localhost:1",
            "localhost.",
            "127.0.0.1",
            "127.9.9.9:80",
            "[::1]:8000",
            "[::1]",
            "::1",
            "[::ffff:127.0.0.1]:80",
        ] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:8000",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "notlocalhost",
            "192.168.0.1",
            "[::2]",
            "0.0.0.0",
        ] {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    #[test]
    fn an_allowed_name_is_meant_with_any_port_or_with_its_own() {
        assert!(is_named("box.lan:8000", "box.lan"));
        assert!(is_named("box.lan:8000", "BOX.lan:8000"));
        assert!(!is_named("box.lan:8000", "box.lan:9000"));
        assert!(!is_named("box.lan.evil", "box.lan"));
    }
}
