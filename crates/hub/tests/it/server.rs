//! A small hub on 127.0.0.1: the list of a revision, redirects to a storage on another port, parts
//! of files, and every kind of trouble on request.

use sha2::Digest;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// The one repository.
pub(crate) const REPO: &str = "tiny/model";
/// Its first commit.
pub(crate) const COMMIT: &str = "1111111111111111111111111111111111111111";

/// A file; large ones lie in the storage, behind a redirect.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) bytes: Vec<u8>,
    pub(crate) is_large: bool,
    /// What is sent in place of the bytes.
    pub(crate) damaged: Option<Vec<u8>>,
}

/// What the hub holds and how it misbehaves.
pub(crate) struct State {
    pub(crate) files: BTreeMap<String, Served>,
    pub(crate) commit: String,
    /// Without this token the repository does not exist.
    pub(crate) token: Option<String>,
    pub(crate) gated: bool,
    /// Bodies of the storage end after so many bytes, once for each entry.
    pub(crate) cuts: Vec<usize>,
    /// Requests that are answered with a status, the next one last.
    pub(crate) statuses: Vec<u16>,
    pub(crate) ignores_range: bool,
    /// Pause between pieces of a body, so that a test can step in.
    pub(crate) slow: Option<Duration>,
    pub(crate) requests: Vec<Asked>,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// At the storage, not at the hub.
    pub(crate) at_storage: bool,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
}

pub(crate) struct Hub {
    pub(crate) endpoint: String,
    state: Arc<Mutex<State>>,
}

impl Hub {
    /// Starts a hub with a tiny model of two shards; its threads end with the process.
    pub(crate) fn start() -> Hub {
        let state = Arc::new(Mutex::new(State {
            files: tiny_model(),
            commit: COMMIT.into(),
            token: None,
            gated: false,
            cuts: Vec::new(),
            statuses: Vec::new(),
            ignores_range: false,
            slow: None,
            requests: Vec::new(),
        }));
        let [hub, storage] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let storage_port = storage.local_addr().unwrap().port();
        let endpoint = format!("http://127.0.0.1:{}", hub.local_addr().unwrap().port());
        for (listener, at_storage) in [(hub, false), (storage, true)] {
            let state = state.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let state = state.clone();
                    std::thread::spawn(move || {
                        let _ = serve(stream, &state, at_storage, storage_port); // they hung up
                    });
                }
            });
        }
        Hub { endpoint, state }
    }

    /// What it holds, to be changed.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The requests since the last call.
    pub(crate) fn requests(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state().requests)
    }
}

fn tiny_model() -> BTreeMap<String, Served> {
    let index = r#"{"weight_map":{"a":"model-00001-of-00002.safetensors",
        "b":"model-00002-of-00002.safetensors"}}"#;
    BTreeMap::from([
        ("README.md".into(), small("not wanted")),
        ("config.json".into(), small("{\"model_type\":\"llama\"}")),
        ("model.safetensors.index.json".into(), small(index)),
        ("model-00001-of-00002.safetensors".into(), large(1, 700_000)),
        ("model-00002-of-00002.safetensors".into(), large(2, 300_001)),
        ("tokenizer.json".into(), large(3, 5_000)),
    ])
}

pub(crate) fn small(text: &str) -> Served {
    Served { bytes: text.into(), is_large: false, damaged: None }
}

/// Bytes that look random and differ with the seed.
pub(crate) fn large(seed: u64, n_bytes: usize) -> Served {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    Served { bytes: (0..n_bytes).map(|_| next()).collect(), is_large: true, damaged: None }
}

/// The name of the blob.
pub(crate) fn hash(file: &Served) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    if file.is_large {
        return hex(&sha2::Sha256::digest(&file.bytes));
    }
    let mut git = sha1::Sha1::new();
    git.update(format!("blob {}\0", file.bytes.len()));
    git.update(&file.bytes);
    hex(&git.finalize())
}

fn serve(
    stream: TcpStream,
    state: &Mutex<State>,
    at_storage: bool,
    storage_port: u16,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let Some(first) = lines.first() else { return Ok(()) };
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let headers = lines[1..].iter().filter_map(|line| line.split_once(':'));
    let headers =
        headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    let asked = Asked { at_storage, method, path, headers };
    let mut state = state.lock().unwrap();
    state.requests.push(asked.clone());
    let answer = state.answer(&asked, storage_port);
    let slow = state.slow;
    drop(state);
    send(stream, &asked, answer, slow)
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    cut: Option<usize>,
}

fn plain(status: u16, headers: Vec<(&'static str, String)>, body: Vec<u8>) -> Answer {
    Answer { status, headers, body, cut: None }
}

impl State {
    fn answer(&mut self, asked: &Asked, storage_port: u16) -> Answer {
        if let Some(status) = self.statuses.pop() {
            return plain(status, vec![], vec![]);
        }
        let path = asked.path.split('?').next().unwrap();
        if asked.at_storage {
            return self.stored(path.trim_start_matches("/blob/"), asked);
        }
        let given = asked.headers.get("authorization").map(String::as_str);
        let wanted = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let error = |status, code: &str| plain(status, vec![("X-Error-Code", code.into())], vec![]);
        if wanted.is_some() && given != wanted.as_deref() {
            return error(401, if given.is_some() { "" } else { "RepoNotFound" });
        }
        if let Some(rest) = path.strip_prefix("/api/models/") {
            return match rest.split_once("/revision/") {
                Some((REPO, "main")) => plain(200, vec![], self.list().into()),
                Some((REPO, revision)) if revision == self.commit => {
                    plain(200, vec![], self.list().into())
                }
                Some((REPO, _)) => error(404, "RevisionNotFound"),
                _ => error(404, "RepoNotFound"),
            };
        }
        if self.gated {
            return error(403, "GatedRepo");
        }
        let here = format!("/{REPO}/resolve/{}/", self.commit);
        if let Some(name) = path.strip_prefix(&here) {
            let Some(file) = self.files.get(name) else { return error(404, "EntryNotFound") };
            let mut headers = vec![("X-Repo-Commit", self.commit.clone())];
            if !file.is_large {
                headers.push(("Location", format!("/direct/{name}")));
                return plain(307, headers, vec![]);
            }
            let location = format!("http://127.0.0.1:{storage_port}/blob/{name}?signature=secret");
            headers.push(("Location", location));
            headers.push(("X-Linked-Etag", format!("\"{}\"", hash(file))));
            headers.push(("X-Linked-Size", file.bytes.len().to_string()));
            return plain(302, headers, b"this is not the file".to_vec());
        }
        match path.strip_prefix("/direct/").and_then(|name| self.files.get(name)) {
            Some(file) => {
                let etag = format!("\"{}\"", hash(file));
                let body = file.damaged.as_ref().unwrap_or(&file.bytes);
                plain(200, vec![("ETag", etag)], body.clone())
            }
            None => error(404, "EntryNotFound"),
        }
    }

    fn list(&self) -> String {
        let siblings = self.files.iter().map(|(name, file)| {
            let lfs = match file.is_large {
                true => format!(r#","lfs":{{"sha256":"{}"}}"#, hash(file)),
                false => String::new(),
            };
            let name = name.replace('\\', "\\\\");
            format!(r#"{{"rfilename":"{name}","size":{}{lfs}}}"#, file.bytes.len())
        });
        let siblings: Vec<String> = siblings.collect();
        format!(r#"{{"sha":"{}","siblings":[{}]}}"#, self.commit, siblings.join(","))
    }

    fn stored(&mut self, name: &str, asked: &Asked) -> Answer {
        let Some(file) = self.files.get(name) else { return plain(404, vec![], vec![]) };
        let bytes = file.damaged.as_ref().unwrap_or(&file.bytes);
        let range = asked.headers.get("range").filter(|_| !self.ignores_range);
        let start = range.map(|range| {
            range.trim_start_matches("bytes=").trim_end_matches('-').parse::<usize>().unwrap()
        });
        let mut answer = match start {
            Some(start) if start >= bytes.len() => plain(416, vec![], vec![]),
            Some(start) => {
                let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
                plain(206, vec![("Content-Range", range)], bytes[start..].to_vec())
            }
            None => plain(200, vec![("ETag", "\"storage-has-its-own\"".into())], bytes.clone()),
        };
        answer.cut = self.cuts.pop();
        answer
    }
}

fn send(
    mut stream: TcpStream,
    asked: &Asked,
    answer: Answer,
    slow: Option<Duration>,
) -> std::io::Result<()> {
    let mut head = format!(
        "HTTP/1.1 {} X\r\nConnection: close\r\nContent-Length: {}\r\n",
        answer.status,
        answer.body.len()
    );
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    if asked.method == "HEAD" {
        return Ok(());
    }
    let end = answer.cut.unwrap_or(usize::MAX).min(answer.body.len());
    for piece in answer.body[..end].chunks(16 << 10) {
        stream.write_all(piece)?;
        if let Some(pause) = slow.filter(|_| asked.at_storage) {
            std::thread::sleep(pause);
        }
    }
    stream.flush()
}
