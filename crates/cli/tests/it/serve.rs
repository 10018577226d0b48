//! The server as clients meet it: the binary on a free port, a small trained model, plain sockets.

use crate::program::{command, fathom, folder, trained};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

const MODEL: &str = "runs/small";

/// A running server; it is killed when it is dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(state: &Path, more: &[&str]) -> Server {
        let store = state.join("serve.sqlite");
        let args = ["serve", MODEL, "--port", "0", "--quiet", "--store", store.to_str().unwrap()];
        let mut child = command(trained(), &[&args, more].concat())
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let page =
            lines.find_map(|line| line.unwrap().strip_prefix("chat page").map(str::to_owned));
        let address = page.expect("a line with the address").trim().to_owned();
        let address = address.strip_prefix("http://").unwrap().trim_end_matches('/').to_owned();
        // Whoever writes to a closed pipe is told so; a server must not care, but this one has a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Server { child, address }
    }

    /// Status and body of a request.
    fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn chat(&self, body: &Value) -> Value {
        let (status, body) = self.ask("POST", "/v1/chat/completions", body);
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// As Ctrl-C does.
    fn interrupt(mut self) -> ExitStatus {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-INT", &id]).status().unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

fn question(text: &str, seed: u64) -> Value {
    json!({
        "model": "deepseek-reasoner",
        "messages": [{"role": "user", "content": text}],
        "seed": seed,
        "max_tokens": 40,
    })
}

/// What an answer says, and why it ended.
fn said(answer: &Value) -> Value {
    let choice = &answer["choices"][0];
    let message = &choice["message"];
    json!([message["reasoning_content"], message["content"], choice["finish_reason"]])
}

#[test]
fn a_seeded_answer_is_that_of_run_alone_and_in_a_crowd() {
    let server = Server::start(&folder("serve-seeds"), &[]);
    let run = |seed: u64| {
        let seed = seed.to_string();
        let args =
            ["run", MODEL, "What is 3 + 4?", "--max-tokens", "40", "--json", "--seed", &seed];
        fathom(trained(), &args).json()
    };
    std::thread::scope(|scope| {
        for seed in 0..12 {
            let server = &server;
            scope.spawn(move || {
                let served = said(&server.chat(&question("What is 3 + 4?", seed)));
                // One command at a time is enough to compare with.
                if seed % 4 == 0 {
                    let alone = run(seed);
                    // `run` leaves out the white space around the parts, which a client gets.
                    let trimmed = |value: &Value| value.as_str().unwrap_or("").trim().to_owned();
                    assert_eq!(trimmed(&served[0]), trimmed(&alone["reasoning"]));
                    assert_eq!(trimmed(&served[1]), trimmed(&alone["text"]));
                }
                assert_eq!(said(&server.chat(&question("What is 3 + 4?", seed))), served);
            });
        }
    });
}

#[test]
fn what_was_cached_is_found_on_disk_after_a_restart_and_changes_nothing() {
    let state = folder("serve-disk");
    let dir = state.join("prefixes");
    let disk = ["--cache-disk", "64MiB", "--cache-dir", dir.to_str().unwrap()];
    let text = "What is 3 + 4? ".repeat(20);
    let hits = |answer: &Value| answer["usage"]["prompt_cache_hit_tokens"].as_u64().unwrap();

    let server = Server::start(&state, &disk);
    let cold = server.chat(&question(&text, 1));
    let warm = server.chat(&question(&text, 1));
    assert_eq!((hits(&cold), said(&warm)), (0, said(&cold)));
    assert!(hits(&warm) >= 64 && hits(&warm) % 64 == 0, "{warm}");
    assert!(server.interrupt().success());

    let server = Server::start(&state, &disk);
    let again = server.chat(&question(&text, 1));
    assert_eq!((hits(&again), said(&again)), (hits(&warm), said(&cold)));
}

#[test]
fn a_killed_server_keeps_conversations() {
    let state = folder("serve-killed");
    let server = Server::start(&state, &[]);
    let (status, made) = server.ask("POST", "/api/conversations", &json!({"title": "kept"}));
    assert!(status < 300, "{made}");
    drop(server); // kill -9
    let server = Server::start(&state, &[]);
    let (_, list) = server.ask("GET", "/api/conversations", &Value::Null);
    assert!(list.contains("kept"), "{list}");
}

#[test]
fn the_page_and_refusals_come_from_the_binary() {
    let server = Server::start(&folder("serve-page"), &[]);
    let (status, page) = server.ask("GET", "/", &Value::Null);
    assert!(status == 200 && page.contains("<title>"), "{page}");
    let wrong = json!({"model": "deepseek-chat", "messages": [], "temperature": 9});
    let (status, refused) = server.ask("POST", "/chat/completions", &wrong);
    assert!((400..423).contains(&status) && refused.contains("\"param\""), "{status} {refused}");
    let (status, metrics) = server.ask("GET", "/metrics", &Value::Null);
    assert!(status == 200 && metrics.contains("fathom_requests_total"), "{metrics}");
}

#[test]
fn a_server_that_cannot_be_is_refused_before_it_loads() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let state = folder("serve-refused");
    let store = state.join("s.sqlite").display().to_string();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["--port", &port], 1, "--port 0"),
        (&["--port", "0", "--context", "99999999"], 2, "positions"),
        (&["--port", "0", "--cache-memory", "10"], 1, "--cache-memory"),
        (&["--port", "0", "--api-key-file", "nowhere"], 1, "nowhere"),
        (&["--port", "0", "--cache-dir", "x"], 2, "--cache-disk"),
    ];
    for (args, code, what) in cases {
        let ended = fathom(trained(), &[&["serve", MODEL, "--store", &store], *args].concat());
        assert_eq!(ended.code, *code, "{ended:?}");
        assert!(ended.stderr.contains(what), "{ended:?}");
    }
}
