//! What the hub is asked: the files of a revision, and hash and length of one file.

use crate::checksum::Expected;
use crate::client::{Answer, Client, Method};
use crate::error::{Error, Result};
use crate::name::{Repo, Revision, escape, is_hash, is_safe_path};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Longest list of files that is read.
const MAX_LIST_BYTES: u64 = 64 << 20;

/// A revision as the server describes it.
#[derive(Debug)]
pub(crate) struct Listing {
    /// Names a folder safely.
    pub(crate) commit: String,
    /// Names are safe paths, and none is a folder of another.
    pub(crate) files: BTreeMap<String, Described>,
}

/// A file as the list describes it, as far as it does.
#[derive(Debug)]
pub(crate) struct Described {
    pub(crate) n_bytes: Option<u64>,
    pub(crate) sha256: Option<String>,
}

/// A file as it is named and stored.
#[derive(Debug)]
pub(crate) struct Metadata {
    /// Names a blob safely.
    pub(crate) etag: String,
    pub(crate) n_bytes: u64,
    pub(crate) expected: Expected,
}

#[derive(Deserialize)]
struct ModelInfo {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    size: Option<u64>,
}

/// The files of a revision.
pub(crate) fn list(client: &Client, repo: &Repo, revision: &Revision) -> Result<Listing> {
    let url = format!(
        "{}/api/models/{}/revision/{}?blobs=true",
        client.endpoint(),
        escape(repo.as_str(), true),
        escape(revision.as_str(), false)
    );
    let answer = client.ask(Method::Get, &url, None)?;
    check_status(client, &answer, repo, revision, None)?;
    let bytes = answer.read_all(MAX_LIST_BYTES)?;
    let bad = |why: String| Error::BadAnswer { url: url.clone(), why };
    let info: ModelInfo = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
    if !is_hash(&info.sha) {
        return Err(bad(format!("`sha` is `{}`", info.sha)));
    }
    let mut files = BTreeMap::new();
    for sibling in info.siblings {
        if !is_safe_path(&sibling.rfilename) {
            return Err(Error::HostileName { repo: repo.to_string(), name: sibling.rfilename });
        }
        let (lfs_bytes, sha256) = sibling.lfs.map_or((None, None), |lfs| (lfs.size, lfs.sha256));
        let described = Described { n_bytes: sibling.size.or(lfs_bytes), sha256 };
        files.insert(sibling.rfilename, described);
    }
    // A file that is also a folder would be written through the link that stands for it.
    let is_folder = |name: &String| {
        let below = format!("{name}/");
        files.range(below.clone()..).next().is_some_and(|(next, _)| next.starts_with(&below))
    };
    match files.keys().find(|name| is_folder(name)) {
        Some(name) => Err(Error::HostileName { repo: repo.to_string(), name: name.clone() }),
        None => Ok(Listing { commit: info.sha, files }),
    }
}

/// The address of a file of a commit.
pub(crate) fn file_url(client: &Client, repo: &Repo, commit: &str, file: &str) -> String {
    format!(
        "{}/{}/resolve/{}/{}",
        client.endpoint(),
        escape(repo.as_str(), true),
        escape(commit, false),
        escape(file, true)
    )
}

/// Hash and length of a file; `listed` is what the list says of it.
pub(crate) fn metadata(
    client: &Client,
    repo: &Repo,
    commit: &str,
    file: &str,
    listed: &Described,
) -> Result<Metadata> {
    let url = file_url(client, repo, commit, file);
    let answer = client.ask(Method::Head, &url, None)?;
    check_status(client, &answer, repo, &Revision::default(), Some(file))?;
    let etag = etag(&answer).ok_or_else(|| Error::BadAnswer {
        url: url.clone(),
        why: "it gives no `ETag` for a file".into(),
    })?;
    if !is_hash(&etag) {
        return Err(Error::HostileHash { file: file.into(), found: etag });
    }
    let linked = answer.header("x-linked-size");
    // The length of a redirect is not that of the file.
    let linked = linked.or_else(|| answer.header("content-length").filter(|_| answer.is_ok()));
    // Without a length nobody would know when a stream that never ends is too long.
    let n_bytes = linked
        .and_then(|text| text.trim().parse().ok())
        .or(listed.n_bytes)
        .ok_or_else(|| Error::BadAnswer { url, why: "it gives no length for a file".into() })?;
    let expected = match (Expected::of_etag(&etag), listed.sha256.as_deref()) {
        (Expected::Sha256(etag), _) => Expected::Sha256(etag),
        (_, Some(sha256)) => Expected::of_etag(sha256),
        (other, None) => other,
    };
    Ok(Metadata { etag, n_bytes, expected })
}

/// The name of the blob, as an answer of the endpoint gives it.
pub(crate) fn etag(answer: &Answer) -> Option<String> {
    let text = answer.header("x-linked-etag").or_else(|| answer.header("etag"))?;
    Some(text.strip_prefix("W/").unwrap_or(text).trim_matches('"').to_owned())
}

/// What a status says about a repository or one of its files. Redirects that the client did not
/// follow count as answers.
pub(crate) fn check_status(
    client: &Client,
    answer: &Answer,
    repo: &Repo,
    revision: &Revision,
    file: Option<&str>,
) -> Result<()> {
    let (repo, endpoint) = (repo.to_string(), client.endpoint().to_owned());
    let (status, had_token) = (answer.status(), client.has_token());
    let code = answer.header("x-error-code").unwrap_or_default();
    Err(match (status, code) {
        (200..=399, _) => return Ok(()),
        (401 | 403, "GatedRepo") => Error::Gated { repo, endpoint, had_token },
        (404, "EntryNotFound") => Error::NoFile { repo, file: file.unwrap_or_default().into() },
        (404, "RevisionNotFound") => {
            Error::NoRevision { repo, revision: revision.as_str().to_owned() }
        }
        // The public hub says 401 for what does not exist, so as not to tell what is private.
        (401, "RepoNotFound") | (404, "RepoNotFound") => {
            Error::NoRepo { repo, endpoint, had_token }
        }
        (401, _) if !had_token => Error::NoRepo { repo, endpoint, had_token },
        (401 | 403, _) => Error::Refused { repo, endpoint, status, had_token },
        (404, _) => match file {
            Some(file) => Error::NoFile { repo, file: file.into() },
            None => Error::NoRepo { repo, endpoint, had_token },
        },
        _ => answer.failed(),
    })
}
