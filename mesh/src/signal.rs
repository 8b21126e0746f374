//! The process is told to end.

use std::future::Future;

/// Resolves at SIGTERM or Ctrl-C. They are caught from this call on.
#[cfg(unix)]
pub(crate) fn listen() -> impl Future<Output = ()> + Send + 'static {
    use tokio::signal::unix::{Signal, SignalKind, signal};

    // No handler can be installed: then the default one ends the process anyway.
    async fn caught(signal: std::io::Result<Signal>) {
        match signal {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    }

    let (terminate, interrupt) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async {
        tokio::select! {
            () = caught(terminate) => {}
            () = caught(interrupt) => {}
        }
    }
}

/// Resolves at Ctrl-C.
#[cfg(not(unix))]
pub(crate) fn listen() -> impl Future<Output = ()> + Send + 'static {
    async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
