//! Requests over HTTP: who is told the token, which redirects are followed, how long is waited.

use crate::error::{Error, Result};
use crate::settings::{Settings, Token};
use std::io::Read;
use std::time::Duration;
use ureq::http::Uri;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

/// Redirects of one request.
const MAX_REDIRECTS: usize = 8;
/// Time for a connection to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest pause that a server may ask for.
const MAX_RETRY_AFTER_S: u64 = 60;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// A file's headers. Redirects to other servers are an answer: they tell what is behind them.
    Head,
    /// Bytes, wherever they are.
    Get,
}

/// One endpoint and who asks.
#[derive(Debug)]
pub(crate) struct Client {
    agent: ureq::Agent,
    endpoint: String,
    origin: String,
    token: Option<Token>,
}

impl Client {
    pub(crate) fn new(settings: &Settings) -> Result<Client> {
        let mut config = ureq::Agent::config_builder()
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_per_read(Some(settings.patience))
            .timeout_per_write(Some(settings.patience))
            .user_agent(concat!("fathom/", env!("CARGO_PKG_VERSION")));
        if let Some(roots) = own_roots()? {
            config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        let endpoint = settings.endpoint.clone();
        let origin = origin(&endpoint).ok_or_else(|| Error::BadSetting {
            name: "HF_ENDPOINT",
            found: endpoint.clone(),
            expected: "an address such as `https://huggingface.co`",
        })?;
        Ok(Client { agent: config.build().into(), endpoint, origin, token: settings.token.clone() })
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(crate) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Asks for `url`, from byte `offset` on if one is given.
    pub(crate) fn ask(&self, method: Method, url: &str, offset: Option<u64>) -> Result<Answer> {
        let mut url = url.to_owned();
        let mut etag = None;
        for _ in 0..=MAX_REDIRECTS {
            let mut answer = self.ask_once(method, &url, offset)?;
            let is_home = origin(&url).as_ref() == Some(&self.origin);
            if is_home {
                etag = crate::api::etag(&answer).or(etag);
            }
            answer.named = etag.clone();
            let Some(target) = answer.redirect() else { return Ok(answer) };
            let refused = |why| Error::Redirect { url: url.clone(), target: target.into(), why };
            let next = absolute(&url, target).ok_or_else(|| refused("that is no address"))?;
            let stays = origin(&next).as_ref() == Some(&self.origin);
            let is_linked = answer.header("x-linked-etag").is_some();
            if method == Method::Head && (is_linked || !stays) {
                return Ok(answer);
            }
            if url.starts_with("https:") && !next.starts_with("https:") {
                return Err(refused("that would leave the encrypted connection"));
            }
            url = next;
        }
        Err(Error::Redirect { target: url.clone(), url, why: "that goes in circles" })
    }

    fn ask_once(&self, method: Method, url: &str, offset: Option<u64>) -> Result<Answer> {
        let mut request = match method {
            Method::Head => self.agent.head(url),
            Method::Get => self.agent.get(url),
        };
        // Compressed bytes could neither be counted nor resumed.
        request = request.header("accept-encoding", "identity");
        if let Some(offset) = offset {
            request = request.header("range", format!("bytes={offset}-"));
        }
        // A token belongs to the endpoint; the storage behind it has addresses that are signed.
        if let Some(token) = &self.token
            && origin(url).as_ref() == Some(&self.origin)
        {
            request = request.header("authorization", format!("Bearer {}", token.secret()));
        }
        match request.call() {
            Ok(response) => Ok(Answer { url: without_query(url), response, named: None }),
            Err(error) => Err(failure(url, error)),
        }
    }
}

/// The head of an answer, and its body to be read.
#[derive(Debug)]
pub(crate) struct Answer {
    /// For people: signed addresses carry their signature in the query, which is left out.
    url: String,
    response: ureq::http::Response<ureq::Body>,
    /// The hash that the endpoint gave on the way here.
    named: Option<String>,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    pub(crate) fn is_ok(&self) -> bool {
        self.status() == 200
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The hash that the endpoint gave for the file that was asked for.
    pub(crate) fn named(&self) -> Option<&str> {
        self.named.as_deref()
    }

    /// The first byte of the part that is sent, by `Content-Range`.
    pub(crate) fn range_start(&self) -> Option<u64> {
        let range = self.header("content-range")?.trim().strip_prefix("bytes")?.trim_start();
        range.split_once('-')?.0.trim().parse().ok()
    }

    fn redirect(&self) -> Option<&str> {
        let moves = matches!(self.status(), 301 | 302 | 303 | 307 | 308);
        self.header("location").filter(|_| moves)
    }

    /// The status as an error.
    pub(crate) fn failed(&self) -> Error {
        let retry_after_s = self
            .header("retry-after")
            .and_then(|text| text.trim().parse::<u64>().ok())
            .map(|seconds| seconds.min(MAX_RETRY_AFTER_S));
        Error::Status { url: self.url.clone(), status: self.status(), retry_after_s }
    }

    /// The body, if it has no more than `limit` bytes.
    pub(crate) fn read_all(self, limit: u64) -> Result<Vec<u8>> {
        let url = self.url;
        let mut bytes = Vec::new();
        let reader = self.response.into_body().into_with_config().limit(u64::MAX).reader();
        let read = reader.take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|error| Error::Network { url: url.clone(), why: error.to_string() })?;
        if bytes.len() as u64 > limit {
            return Err(Error::BadAnswer { url, why: format!("more than {limit} bytes") });
        }
        Ok(bytes)
    }

    /// The address for people, and the body.
    pub(crate) fn into_reader(self) -> (String, impl Read) {
        (self.url, self.response.into_body().into_with_config().limit(u64::MAX).reader())
    }
}

fn failure(url: &str, error: ureq::Error) -> Error {
    let url = without_query(url);
    match error {
        ureq::Error::HostNotFound => Error::NoHost { url },
        // The standard library has no kind for a name that cannot be looked up, only this text.
        ureq::Error::Io(error) if error.to_string().contains("failed to lookup address") => {
            Error::NoHost { url }
        }
        ureq::Error::BadUri(why) => Error::BadAnswer { url, why },
        // Certificates do not become valid by asking again, but a cut handshake looks the same.
        other => Error::Network { url, why: other.to_string() },
    }
}

fn without_query(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().to_owned()
}

/// Scheme, host and port, with the port written out.
fn origin(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?;
    let port = uri.port_u16().or(match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    })?;
    Some(format!("{scheme}://{}:{port}", uri.host()?.to_ascii_lowercase()))
}

/// Where a `Location` leads, seen from `url`.
fn absolute(url: &str, target: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let next = if target.starts_with("http://") || target.starts_with("https://") {
        target.to_owned()
    } else if target.starts_with("//") {
        format!("{scheme}:{target}")
    } else if target.starts_with('/') {
        format!("{scheme}://{authority}{target}")
    } else {
        return None; // hubs do not send paths that are relative to a file
    };
    let uri: Uri = next.parse().ok()?;
    let has_credentials = uri.authority()?.as_str().contains('@');
    (uri.host().is_some() && !has_credentials).then_some(next)
}

/// The certificates that `SSL_CERT_FILE` names, for networks with an authority of their own.
fn own_roots() -> Result<Option<RootCerts>> {
    let name = "SSL_CERT_FILE";
    let Some(path) = std::env::var_os(name).filter(|path| !path.is_empty()) else {
        return Ok(None);
    };
    let pem = std::fs::read(&path).map_err(|source| Error::Io {
        path: path.clone().into(),
        doing: "read the certificates in",
        source,
    })?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        let found = path.to_string_lossy().into_owned();
        return Err(Error::BadSetting { name, found, expected: "a file of PEM certificates" });
    }
    Ok(Some(RootCerts::new_with_certs(&certificates)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert_eq!(origin("https://HUB.co/x"), origin("https://hub.co:443/y?z"));
        for other in ["http://hub.co/x", "https://hub.co:444", "https://hub.co.evil.com/x"] {
            assert_ne!(origin("https://hub.co"), origin(other), "{other}");
        }
    }

    #[test]
    fn redirects_lead_to_addresses_without_credentials() {
        let from = "https://hub.co/o/n/resolve/main/f?x";
        assert_eq!(absolute(from, "/api/f").as_deref(), Some("https://hub.co/api/f"));
        assert_eq!(absolute(from, "//cdn.co/f").as_deref(), Some("https://cdn.co/f"));
        assert_eq!(absolute(from, "http://cdn.co/f").as_deref(), Some("http://cdn.co/f"));
        for bad in ["f", "ftp://cdn.co/f", "https://user@hub.co/f", "file:///etc/passwd", ""] {
            assert_eq!(absolute(from, bad), None, "{bad}");
        }
    }
}
