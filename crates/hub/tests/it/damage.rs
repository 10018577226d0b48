//! Cut, changed and damaged transfers end with the right bytes, or with an error and no bytes.

use crate::fetching::{blobs, check_whole, folder, pull_all, settings};
use crate::server::{Hub, hash, large};
use fathom_hub::{Error, Settings};
use std::fs;

/// The larger shard.
const SHARD: &str = "model-00001-of-00002.safetensors";

/// `Range` headers that reached the storage.
fn ranges(hub: &Hub) -> Vec<String> {
    let requests = hub.requests();
    requests
        .iter()
        .filter(|asked| asked.at_storage)
        .filter_map(|asked| asked.headers.get("range").cloned())
        .collect()
}

#[test]
fn a_cut_connection_goes_on_where_it_was_cut() {
    let (hub, dir) = (Hub::start(), folder("cut"));
    hub.state().cuts = vec![100_000, 50_000];
    let one_at_a_time = Settings { n_parallel: 1, ..settings(&hub, &dir) };
    let pulled = pull_all(&one_at_a_time).unwrap();
    check_whole(&hub, &pulled);
    // The first body of the storage is `tokenizer.json`, shorter than the first cut.
    assert_eq!(ranges(&hub), ["bytes=100000-"]);
    assert_eq!(pulled.bytes_downloaded, pulled.files.iter().map(|file| file.n_bytes).sum::<u64>());
}

#[test]
fn a_killed_pull_goes_on_in_the_next_one() {
    let (hub, dir) = (Hub::start(), folder("killed"));
    let never_again = Settings { n_retries: 0, n_parallel: 1, ..settings(&hub, &dir) };
    hub.state().cuts = vec![123_456, 50_000];
    let error = pull_all(&never_again).unwrap_err();
    assert!(error.to_string().contains("after 123456 of 700000 bytes"), "{error}");
    let partial = format!("{}.incomplete", hash(&hub.state().files[SHARD]));
    assert!(blobs(&dir).contains(&partial));
    hub.requests();
    let pulled = pull_all(&never_again).unwrap();
    check_whole(&hub, &pulled);
    assert_eq!(ranges(&hub), ["bytes=123456-"]);
    assert!(!blobs(&dir).contains(&partial));
}

#[test]
fn a_server_without_ranges_starts_over() {
    let (hub, dir) = (Hub::start(), folder("no_range"));
    hub.state().ignores_range = true;
    hub.state().cuts = vec![100_000, 50_000];
    let pulled = pull_all(&Settings { n_parallel: 1, ..settings(&hub, &dir) }).unwrap();
    check_whole(&hub, &pulled);
    let total: u64 = pulled.files.iter().map(|file| file.n_bytes).sum();
    assert_eq!(pulled.bytes_downloaded, total + 100_000);
    assert_eq!(pulled.bytes_reused, 0);
}

#[test]
fn a_file_that_changes_between_two_pulls_starts_over() {
    let (hub, dir) = (Hub::start(), folder("changed"));
    let never_again = Settings { n_retries: 0, n_parallel: 1, ..settings(&hub, &dir) };
    hub.state().cuts = vec![100_000, 50_000];
    pull_all(&never_again).unwrap_err();
    hub.state().files.insert(SHARD.into(), large(77, 650_000));
    hub.requests();
    check_whole(&hub, &pull_all(&never_again).unwrap());
    assert!(ranges(&hub).is_empty(), "old bytes belong to another file");
}

#[test]
fn old_bytes_that_were_damaged_are_fetched_again() {
    let (hub, dir) = (Hub::start(), folder("old_damage"));
    let dir_of_blobs = dir.join("models--tiny--model/blobs");
    fs::create_dir_all(&dir_of_blobs).unwrap();
    let partial =
        |name: &str| dir_of_blobs.join(format!("{}.incomplete", hash(&hub.state().files[name])));
    fs::write(partial(SHARD), vec![0; 300_000]).unwrap();
    fs::write(partial("tokenizer.json"), vec![0; 9_000_000]).unwrap(); // longer than the file
    check_whole(&hub, &pull_all(&settings(&hub, &dir)).unwrap());
}

#[test]
fn damaged_bytes_are_an_error_and_leave_nothing() {
    for name in [SHARD, "config.json"] {
        let (hub, dir) = (Hub::start(), folder("damaged"));
        {
            let mut state = hub.state();
            let file = state.files.get_mut(name).unwrap();
            let mut bytes = file.bytes.clone();
            *bytes.last_mut().unwrap() ^= 1;
            file.damaged = Some(bytes);
        }
        let error = pull_all(&settings(&hub, &dir)).unwrap_err();
        let Error::Checksum { file, expected, found } = &error else { panic!("{error}") };
        assert!(file == name && expected != found);
        assert!(error.to_string().contains("\nhint: "), "{error}");
        let blob = hash(&hub.state().files[name]);
        assert!(!blobs(&dir).iter().any(|name| name.starts_with(&blob)), "nothing is left");
        assert!(!dir.join("models--tiny--model/refs/main").exists());
    }
}

#[test]
fn more_bytes_than_promised_are_an_error_and_leave_nothing() {
    let (hub, dir) = (Hub::start(), folder("too_long"));
    hub.state().files.get_mut(SHARD).unwrap().damaged = Some(vec![7; 900_000]);
    assert!(matches!(
        pull_all(&settings(&hub, &dir)),
        Err(Error::TooLong { expected: 700_000, .. })
    ));
    assert!(!blobs(&dir).contains(&format!("{}.incomplete", hash(&hub.state().files[SHARD]))));
}

#[test]
fn a_server_that_stumbles_is_asked_again_but_not_forever() {
    let (hub, dir) = (Hub::start(), folder("stumbles"));
    let settings = Settings { n_parallel: 1, ..settings(&hub, &dir) };
    hub.state().statuses = vec![503, 500];
    check_whole(&hub, &pull_all(&settings).unwrap());
    hub.state().statuses = vec![503; 10];
    let error = pull_all(&settings).unwrap_err();
    assert!(matches!(error, Error::Status { status: 503, .. }), "{error}");
    assert_eq!(hub.state().statuses.len(), 7, "one attempt and two more");
}
