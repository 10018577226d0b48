//! The loop that takes connections: limits, time-outs, and an orderly end.
//!
//! Few threads, because the processor belongs to the engine. A client that goes away is noticed
//! while it waits or is written to; dropping its connection drops its answers.

use crate::app::Shared;
use crate::aside;
use crate::host_names;
use crate::router::router;
use crate::stall::StallLimit;
use axum::Router;
use axum::middleware::from_fn_with_state;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};

/// Threads that speak to clients.
const THREADS: usize = 2;
/// How often the server looks whether it shall stop.
const LOOK: Duration = Duration::from_millis(50);
/// Time for answers that are ended to say so.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Largest head of a request.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// Serves until `stop` says so, then lets answers end for a while.
///
/// Errors: the listener cannot be used, or no threads can be made.
pub fn serve(listener: TcpListener, app: Shared, stop: impl Fn() -> bool) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .max_blocking_threads(aside::THREADS)
        .thread_name("fathom-http")
        .enable_all()
        .build()?;
    let served = runtime.block_on(accept(listener, app, stop));
    // What is still running is dropped, which cancels its jobs.
    runtime.shutdown_timeout(Duration::from_millis(500));
    served
}

async fn accept(listener: TcpListener, app: Shared, stop: impl Fn() -> bool) -> io::Result<()> {
    let is_local = listener.local_addr()?.ip().is_loopback();
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let service = Connections {
        router: routes(&app, is_local),
        graceful: GracefulShutdown::new(),
        app: app.clone(),
    };
    let slots = Arc::new(Semaphore::new(app.settings.max_connections));
    let mut look = Instant::now() + LOOK;
    while !stop() {
        let Ok(accepted) = tokio::time::timeout_at(look, listener.accept()).await else {
            look = Instant::now() + LOOK;
            continue;
        };
        match accepted {
            Ok((stream, _)) => match slots.clone().try_acquire_owned() {
                Ok(slot) => service.spawn(stream, slot),
                Err(_) => {
                    tokio::spawn(refuse(stream));
                }
            },
            // Such as too many open files: others must end first.
            Err(error) => {
                app.log(|| format!("cannot accept a connection: {error}"));
                sleep(LOOK).await;
            }
        }
    }
    drop(listener);
    let mut all_ended = pin!(service.graceful.shutdown());
    if timeout(app.settings.stop_limit, &mut all_ended).await.is_err() {
        // Answers that go on end here, and say so; who does not listen is cut off.
        app.engine.stop();
        let _ = timeout(LAST_WORDS, all_ended).await;
    }
    Ok(())
}

fn routes(app: &Shared, is_local: bool) -> Router {
    let router = router(app.clone());
    match is_local {
        true => {
            let allowed: Arc<[String]> = app.settings.hosts.clone().into();
            router.layer(from_fn_with_state(allowed, host_names::check))
        }
        false => router,
    }
}

struct Connections {
    router: Router,
    graceful: GracefulShutdown,
    app: Shared,
}

impl Connections {
    fn spawn(&self, stream: TcpStream, slot: OwnedSemaphorePermit) {
        // Tokens are small and must not wait for each other.
        let _ = stream.set_nodelay(true);
        let stream = StallLimit::new(TokioIo::new(stream), self.app.settings.write_limit);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.app.settings.header_limit)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(stream, TowerToHyperService::new(self.router.clone()));
        let connection = self.graceful.watch(connection);
        tokio::spawn(async move {
            // Whatever went wrong, it is between the client and the network.
            let _ = connection.await;
            drop(slot);
        });
    }
}

/// Says that there are too many connections, and hangs up.
async fn refuse(stream: TcpStream) {
    const BODY: &str = concat!(
        r#"{"error":{"message":"too many connections","type":"server_error","#,
        r#""param":null,"code":"overloaded"}}"#
    );
    let response = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nretry-after: 1\r\nconnection: close\r\n\r\n{BODY}",
        BODY.len()
    );
    if stream.writable().await.is_ok() {
        let _ = stream.try_write(response.as_bytes());
        // Without this, what the client sent unread would make the system take the answer back.
        let mut unread = [0; 4096];
        let _ = timeout(LOOK, stream.readable()).await;
        while stream.try_read(&mut unread).is_ok_and(|n| n > 0) {}
    }
}

#[cfg(test)]
mod tests;
