//! The server over real connections.

use super::*;
use crate::testing::{ScriptedEngine, Stage};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// A server that runs until it is dropped.
struct Running {
    address: SocketAddr,
    engine: Arc<ScriptedEngine>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Running {
    fn new(stage: Stage) -> Running {
        let (app, engine) = stage.both();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread =
            std::thread::spawn(move || serve(listener, app, || stopped.load(Ordering::SeqCst)));
        Running { address, engine, stop, thread: Some(thread) }
    }

    fn connect(&self) -> std::net::TcpStream {
        let stream = std::net::TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Sends bytes and reads until the server hangs up.
    fn exchange(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        read_all(&mut stream)
    }

    fn stop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

fn read_all(stream: &mut std::net::TcpStream) -> String {
    let mut bytes = Vec::new();
    // A connection that is cut off still said something.
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn get(host: &str) -> String {
    format!("GET /v1/models HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")
}

fn chat(stream: bool) -> String {
    let body = format!(
        r#"{{"model": "tiny", "messages": [{{"role": "user", "content": "Hi"}}], "stream": {stream}}}"#
    );
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Waits for something that another thread does.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("never: {what}");
}

fn is_dropped(running: &Running) -> bool {
    let seen = running.engine.seen.lock().unwrap();
    !seen.is_empty() && seen.iter().all(|job| job.dropped.load(Ordering::SeqCst))
}

#[test]
fn requests_are_answered_over_a_connection_that_stays_open() {
    let running = Running::new(Stage::new().answers(&["Hello"]));
    let mut stream = running.connect();
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut head = [0; 15];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    stream.write_all(chat(true).as_bytes()).unwrap();
    let rest = read_all(&mut stream);
    assert!(rest.contains("text/event-stream") && rest.contains("data: [DONE]"), "{rest}");
}

#[test]
fn a_foreign_host_is_refused_where_only_this_machine_is_served() {
    let running = Running::new(Stage::new().settings(|s| s.hosts = vec!["box.lan".into()]));
    for host in ["localhost", "127.0.0.1:8000", "box.lan:80"] {
        assert!(running.exchange(&get(host)).starts_with("HTTP/1.1 200"), "{host}");
    }
    let said = running.exchange(&get("evil.example"));
    assert!(said.starts_with("HTTP/1.1 403") && said.contains("host_not_allowed"), "{said}");
}

#[test]
fn a_client_that_hangs_up_takes_its_job_back_at_once() {
    for stream in [true, false] {
        let running = Running::new(Stage::new().held());
        let mut client = running.connect();
        client.write_all(chat(stream).as_bytes()).unwrap();
        until("the job is given", || !running.engine.seen.lock().unwrap().is_empty());
        assert!(!is_dropped(&running));
        client.shutdown(Shutdown::Both).unwrap();
        drop(client);
        until("the job is taken back", || is_dropped(&running));
    }
}

#[test]
fn too_many_connections_are_told_to_come_back() {
    let running = Running::new(Stage::new().settings(|s| s.max_connections = 1));
    let first = running.connect();
    std::thread::sleep(Duration::from_millis(100));
    let said = running.exchange(&get("localhost"));
    assert!(said.starts_with("HTTP/1.1 503") && said.contains("too many connections"), "{said}");
    drop(first);
    until("there is room again", || {
        running.exchange(&get("localhost")).starts_with("HTTP/1.1 200")
    });
}

#[test]
fn heads_and_bodies_that_do_not_arrive_are_given_up() {
    let short = Duration::from_millis(100);
    let running = Running::new(Stage::new().settings(|settings| {
        settings.header_limit = short;
        settings.body_limit = short;
    }));
    let said = running.exchange("GET /v1/models HTTP/1.1\r\nhost: loc");
    assert!(!said.contains("200"), "{said}");
    let said = running.exchange(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{",
    );
    assert!(said.starts_with("HTTP/1.1 408"), "{said}");
}

#[test]
fn a_body_that_is_announced_too_large_is_refused_before_it_comes() {
    let running = Running::new(Stage::new());
    let said = running.exchange(
        "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-length: 99999999999\r\n\r\n{",
    );
    assert!(said.starts_with("HTTP/1.1 413") && said.contains("larger than"), "{said}");
}

#[test]
fn what_is_no_http_is_refused() {
    let running = Running::new(Stage::new());
    let said = running.exchange("\u{16}\u{3}\u{1} hello\r\n\r\n");
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 400"), "{said}");
    let long = format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "x".repeat(100_000));
    assert!(!running.exchange(&long).contains("200 OK"));
    assert!(running.exchange(&get("localhost")).starts_with("HTTP/1.1 200"));
}

#[test]
fn a_client_that_takes_nothing_is_cut_off() {
    let text = "all work and no play ".repeat(20_000);
    let stage = Stage::new().answers(&[&text]).settings(|settings| {
        settings.write_limit = Duration::from_millis(200);
    });
    let running = Running::new(stage.context(1 << 20));
    let mut client = running.connect();
    client.write_all(chat(true).as_bytes()).unwrap();
    until("the job is taken back", || is_dropped(&running));
    let said = read_all(&mut client);
    assert!(!said.contains("[DONE]"));
}

#[test]
fn a_server_that_stops_lets_answers_end_and_ends_the_others() {
    let stage = Stage::new().answers(&["Hello"]).held();
    let mut running = Running::new(stage.settings(|s| s.stop_limit = Duration::from_secs(5)));
    let mut client = running.connect();
    client.write_all(chat(false).as_bytes()).unwrap();
    until("the job is given", || !running.engine.seen.lock().unwrap().is_empty());
    running.stop.store(true, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(200));
    running.engine.release();
    let said = read_all(&mut client);
    assert!(said.starts_with("HTTP/1.1 200") && said.contains("Hello"), "{said}");
    running.stop();

    let stage = Stage::new().held().settings(|s| s.stop_limit = Duration::from_millis(100));
    let mut running = Running::new(stage);
    let mut client = running.connect();
    client.write_all(chat(true).as_bytes()).unwrap();
    until("the job is given", || !running.engine.seen.lock().unwrap().is_empty());
    running.stop();
    assert!(is_dropped(&running));
    let said = read_all(&mut client);
    assert!(said.contains("insufficient_system_resource") && said.contains("[DONE]"), "{said}");
}
