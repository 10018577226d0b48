//! What a download leaves on the disk, and how little the next one fetches.

use crate::server::{COMMIT, Hub, REPO, hash, large};
use fathom_hub::{
    Cache, Error, Event, Held, ModelName, Progress, Pulled, Request, Result, Settings, Unwatched,
    pull,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// An empty folder for one test.
pub(crate) fn folder(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    dir
}

pub(crate) fn settings(hub: &Hub, dir: &Path) -> Settings {
    Settings {
        endpoint: hub.endpoint.clone(),
        cache: Cache::at(dir),
        token: None,
        offline: false,
        n_retries: 2,
        first_pause: Duration::from_millis(1),
        patience: Duration::from_secs(5),
        n_parallel: 2,
    }
}

pub(crate) fn name() -> ModelName {
    ModelName::parse(REPO).unwrap()
}

pub(crate) fn pull_all(settings: &Settings) -> Result<Pulled> {
    pull(settings, &Request::from(name()), &mut Unwatched)
}

/// Expects the whole model in the snapshot, with its bytes.
pub(crate) fn check_whole(hub: &Hub, pulled: &Pulled) {
    assert_eq!(pulled.files.len(), 5);
    for file in &pulled.files {
        let served = &hub.state().files[&file.name];
        assert_eq!(fs::read(pulled.dir.join(&file.name)).unwrap(), served.bytes, "{}", file.name);
        assert_eq!(file.n_bytes, served.bytes.len() as u64);
    }
}

/// Names below `models--tiny--model/blobs`.
pub(crate) fn blobs(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir.join("models--tiny--model/blobs")).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_fresh_pull_leaves_the_layout_that_python_reads() {
    let (hub, dir) = (Hub::start(), folder("fresh"));
    let pulled = pull_all(&settings(&hub, &dir)).unwrap();
    check_whole(&hub, &pulled);
    let repo = dir.join("models--tiny--model");
    assert_eq!(pulled.dir, repo.join("snapshots").join(COMMIT));
    assert_eq!(fs::read_to_string(repo.join("refs/main")).unwrap(), COMMIT);
    assert_eq!(pulled.bytes_downloaded, pulled.files.iter().map(|file| file.n_bytes).sum::<u64>());
    for file in &pulled.files {
        let blob = hash(&hub.state().files[&file.name]);
        let link = fs::read_link(pulled.dir.join(&file.name)).unwrap();
        assert_eq!(link, Path::new("../../blobs").join(&blob), "{}", file.name);
        assert!(dir.join(format!(".locks/models--tiny--model/{blob}.lock")).is_file());
    }
    assert_eq!(blobs(&dir).len(), 5, "README.md is not wanted, and nothing is left over");
    let cache = Cache::at(&dir);
    assert_eq!(cache.find(&name().repo, &name().revision), Some(pulled.dir.clone()));
    assert_eq!(cache.held(&name()).unwrap(), Held::Directory(pulled.dir));
}

#[test]
fn a_second_pull_asks_for_the_list_and_nothing_else() {
    let (hub, dir) = (Hub::start(), folder("second"));
    let first = pull_all(&settings(&hub, &dir)).unwrap();
    hub.requests();
    let second = pull_all(&settings(&hub, &dir)).unwrap();
    let requests = hub.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(requests[0].path.starts_with("/api/models/tiny/model/revision/main"));
    assert_eq!((second.bytes_downloaded, second.bytes_reused), (0, first.bytes_downloaded));
    assert_eq!(second.files, first.files);
}

#[test]
fn a_new_commit_fetches_what_changed_and_links_the_rest() {
    let (hub, dir) = (Hub::start(), folder("commit"));
    let first = pull_all(&settings(&hub, &dir)).unwrap();
    let new = "2222222222222222222222222222222222222222";
    hub.state().commit = new.into();
    hub.state().files.insert("tokenizer.json".into(), large(9, 6_000));
    let second = pull_all(&settings(&hub, &dir)).unwrap();
    check_whole(&hub, &second);
    assert_eq!((second.commit.as_str(), second.bytes_downloaded), (new, 6_000));
    assert!(first.dir.join("tokenizer.json").is_file(), "the old snapshot stays");
    let old = Request { revision: fathom_hub::Revision::new(COMMIT).unwrap(), ..name().into() };
    let offline = Settings { offline: true, ..settings(&hub, &dir) };
    assert_eq!(pull(&offline, &old, &mut Unwatched).unwrap().dir, first.dir);
}

#[test]
fn offline_nothing_is_asked_and_only_whole_models_are_found() {
    let (hub, dir) = (Hub::start(), folder("offline"));
    let online = settings(&hub, &dir);
    let offline = Settings { offline: true, ..online.clone() };
    let text = pull_all(&offline).unwrap_err().to_string();
    assert!(text.contains("HF_HUB_OFFLINE") && text.contains("\nhint: "), "{text}");
    assert!(hub.requests().is_empty());
    let pulled = pull_all(&online).unwrap();
    hub.requests();
    let found = pull_all(&offline).unwrap();
    assert_eq!((found.dir, found.files), (pulled.dir.clone(), pulled.files));
    assert!(hub.requests().is_empty());

    fs::remove_file(pulled.dir.join("model-00002-of-00002.safetensors")).unwrap();
    let Held::Part { missing, .. } = online.cache.held(&name()).unwrap() else {
        panic!("a shard is missing");
    };
    assert_eq!(missing, ["model-00002-of-00002.safetensors"]);
    assert!(matches!(pull_all(&offline), Err(Error::Offline { .. })));
}

#[test]
fn one_gguf_is_chosen_by_a_part_of_its_name() {
    let (hub, dir) = (Hub::start(), folder("gguf"));
    let names = ["m-Q4_K_M.gguf", "m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf"];
    let files = (1..).zip(names).map(|(seed, name)| (name.to_owned(), large(seed, 1000)));
    hub.state().files = files.collect();
    let settings = settings(&hub, &dir);
    let error = pull_all(&settings).unwrap_err();
    assert!(matches!(&error, Error::Ambiguous { choices, .. } if choices.len() == 2));
    assert!(error.to_string().contains("`tiny/model:m-Q4_K_M.gguf`"), "{error}");
    let q8 = ModelName::parse("tiny/model:Q8_0").unwrap();
    assert_eq!(settings.cache.held(&q8).unwrap(), Held::Nothing);
    let pulled = pull(&settings, &q8.clone().into(), &mut Unwatched).unwrap();
    assert_eq!(pulled.files.len(), 2);
    assert_eq!(settings.cache.held(&q8).unwrap(), Held::Gguf(pulled.dir.join(names[1])));
    assert_eq!(settings.cache.held(&name()).unwrap(), Held::Gguf(pulled.dir.join(names[1])));
    fs::remove_file(pulled.dir.join(names[2])).unwrap();
    assert!(matches!(settings.cache.held(&q8).unwrap(), Held::Part { .. }));
}

#[test]
fn two_pulls_at_once_fetch_every_byte_once() {
    let (hub, dir) = (Hub::start(), folder("twice"));
    hub.state().slow = Some(Duration::from_millis(2));
    let settings = settings(&hub, &dir);
    let pulled = std::thread::scope(|scope| {
        let threads = [(); 2].map(|()| scope.spawn(|| pull_all(&settings).unwrap()));
        threads.map(|thread| thread.join().unwrap())
    });
    pulled.iter().for_each(|pulled| check_whole(&hub, pulled));
    let total: u64 = pulled[0].files.iter().map(|file| file.n_bytes).sum();
    assert_eq!(pulled[0].bytes_downloaded + pulled[1].bytes_downloaded, total);
    assert_eq!(blobs(&dir).len(), 5);
}

/// Stops when a file has this many bytes.
struct StopsAt(u64, AtomicBool);

impl Progress for StopsAt {
    fn event(&mut self, event: &Event) {
        if matches!(event, Event::At { done, .. } if *done >= self.0) {
            self.1.store(true, Ordering::SeqCst);
        }
    }

    fn wants_stop(&self) -> bool {
        self.1.load(Ordering::SeqCst)
    }
}

#[test]
fn a_stopped_pull_keeps_its_bytes_and_shows_no_half_model() {
    let (hub, dir) = (Hub::start(), folder("stopped"));
    hub.state().slow = Some(Duration::from_millis(10));
    let settings = settings(&hub, &dir);
    let mut watcher = StopsAt(40_000, AtomicBool::new(false));
    let stopped = pull(&settings, &Request::from(name()), &mut watcher);
    assert!(matches!(stopped, Err(Error::Stopped)));
    assert!(blobs(&dir).iter().any(|name| name.ends_with(".incomplete")));
    assert_eq!(settings.cache.find(&name().repo, &name().revision), None);
    hub.state().slow = None;
    let pulled = pull_all(&settings).unwrap();
    check_whole(&hub, &pulled);
    assert!(pulled.bytes_reused >= 40_000, "{pulled:?}");
}
