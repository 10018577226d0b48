//! Downloads as a person meets them: against a hub that the test starts on this machine.

use crate::hub_server::{COMMIT, Hub, REPO, small};
use crate::program::{Ended, command, folder, golden};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A call that knows no hub, cache or token but these.
fn call(hub: &Hub, dir: &Path, args: &[&str], more: &[(&str, &str)]) -> Command {
    let mut command = command(dir, args);
    for name in ["HF_HUB_CACHE", "HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE", "HTTP_PROXY"] {
        command.env_remove(name);
    }
    command.env_remove("http_proxy").env_remove("ALL_PROXY").env_remove("all_proxy");
    command.env("HF_HOME", dir.join("hf")).env("HF_ENDPOINT", &hub.endpoint);
    command.envs(more.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn ended(mut command: Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn pull_prints_the_snapshot_and_the_next_one_fetches_nothing() {
    let (hub, dir) = (Hub::start(), folder("pull"));
    let first = ended(call(&hub, &dir, &["pull", REPO], &[]));
    assert_eq!(first.code, 0, "{first:?}");
    let snapshot = Path::new(first.stdout.trim());
    assert!(snapshot.ends_with(format!("hf/hub/models--tiny--model/snapshots/{COMMIT}")));
    assert!(snapshot.join("config.json").is_file());
    assert!(first.stderr.contains("fetching 5 files") && !first.stderr.contains('\x1b'));
    let json = ended(call(&hub, &dir, &["pull", REPO, "--json"], &[])).json();
    assert_eq!((&json["bytes_downloaded"], &json["commit"]), (&0.into(), &COMMIT.into()));
    assert_eq!(json["files"].as_array().unwrap().len(), 5);
    let offline = ended(call(&hub, &dir, &["pull", REPO], &[("HF_HUB_OFFLINE", "1")]));
    assert_eq!((offline.code, offline.stdout), (0, first.stdout));
}

#[test]
fn a_private_repository_asks_for_a_token_and_takes_it_from_the_file() {
    let (hub, dir) = (Hub::start(), folder("pull_private"));
    hub.state().token = Some("hf_right".into());
    let refused = ended(call(&hub, &dir, &["pull", REPO], &[]));
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""), "{refused:?}");
    assert!(refused.stderr.contains("hint: ") && refused.stderr.contains("HF_TOKEN"));
    std::fs::create_dir_all(dir.join("hf")).unwrap();
    std::fs::write(dir.join("hf/token"), "hf_right\n").unwrap();
    assert_eq!(ended(call(&hub, &dir, &["pull", REPO], &[])).code, 0);
    let bad = ended(call(&hub, &dir, &["pull", "../etc"], &[]));
    assert!(bad.code == 1 && bad.stderr.contains("is no name of a repository"), "{bad:?}");
}

#[test]
#[cfg(unix)]
fn ctrl_c_keeps_the_bytes_and_prints_how_to_go_on() {
    let (hub, dir) = (Hub::start(), folder("pull_interrupted"));
    hub.state().slow = Some(Duration::from_millis(50));
    let child = call(&hub, &dir, &["pull", REPO], &[]).spawn().unwrap();
    let blobs = dir.join("hf/hub/models--tiny--model/blobs");
    let is_growing = || {
        let entries = std::fs::read_dir(&blobs).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.path().extension().is_some_and(|x| x == "incomplete"))
            .any(|entry| entry.metadata().is_ok_and(|found| found.len() > 20_000))
    };
    let start = Instant::now();
    while !is_growing() && start.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("go on with: ") && stderr.contains("pull tiny/model"), "{stderr}");
    assert!(is_growing(), "what was fetched is kept");
    hub.state().slow = None;
    let json = ended(call(&hub, &dir, &["pull", REPO, "--json"], &[])).json();
    assert!(json["bytes_reused"].as_u64().unwrap() > 20_000, "{json}");
}

#[test]
fn run_fetches_what_it_is_asked_to_talk_with_and_logits_says_how() {
    let (hub, dir) = (Hub::start(), folder("pull_run"));
    {
        let mut state = hub.state();
        state.files.clear();
        for entry in std::fs::read_dir(golden("llama_gqa")).unwrap().flatten() {
            let file = std::fs::read(entry.path()).unwrap_or_default();
            let mut served = small("");
            served.bytes = file;
            served.is_large = entry.path().extension().is_some_and(|x| x == "safetensors");
            state.files.insert(entry.file_name().into_string().unwrap(), served);
        }
    }
    let asked = &["logits", REPO, "--ids", "1,2", "--json"];
    let refused = ended(call(&hub, &dir, asked, &[]));
    assert!(refused.code == 1 && refused.stderr.contains("pull tiny/model`"), "{refused:?}");
    assert!(hub.requests().is_empty(), "only `run` and `pull` ask the internet");
    let offline = &[("HF_HUB_OFFLINE", "1")];
    let ask = &["run", REPO, "x", "--raw", "--max-tokens", "1"];
    let refused = ended(call(&hub, &dir, ask, offline));
    assert!(refused.code == 1 && refused.stderr.contains("HF_HUB_OFFLINE"), "{refused:?}");
    let answered = ended(call(&hub, &dir, ask, &[]));
    assert!(answered.stderr.contains("fetching "), "{answered:?}");
    // Held now, so every command finds it, with the same bits as in the directory.
    let logits = ended(call(&hub, &dir, asked, offline));
    let place = golden("llama_gqa");
    let direct = ended(call(&hub, &dir, &["logits", &place, "--ids", "1,2", "--json"], offline));
    assert_eq!((logits.code, logits.stdout), (0, direct.stdout), "{}", logits.stderr);
}
