//! The context of the running task.

use std::future::Future;

use tokio::task::{JoinHandle, futures::TaskLocalFuture};

use super::TraceContext;

tokio::task_local! {
    static CURRENT: TraceContext;
}

/// A future inside a context, by name.
pub(crate) type Scoped<F> = TaskLocalFuture<TraceContext, F>;

/// The context of the request that this task is handling.
#[must_use]
pub fn current() -> Option<TraceContext> {
    CURRENT.try_with(Clone::clone).ok()
}

/// Run a future inside a context: [`current`] answers with it in there, in this task.
pub fn scope<F: Future>(context: TraceContext, future: F) -> impl Future<Output = F::Output> {
    scoped(context, future)
}

/// [`tokio::spawn`], with the current context going along.
///
/// # Panics
/// Outside a tokio runtime.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    match current() {
        Some(context) => tokio::spawn(scoped(context, future)),
        None => tokio::spawn(future),
    }
}

pub(crate) fn scoped<F: Future>(context: TraceContext, future: F) -> Scoped<F> {
    CURRENT.scope(context, future)
}

/// Call a function inside a context.
pub(crate) fn enter<R>(context: TraceContext, call: impl FnOnce() -> R) -> R {
    CURRENT.sync_scope(context, call)
}
