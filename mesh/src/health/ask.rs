//! One check of one endpoint.

use std::{io, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::{BodyExt as _, Limited};
use mesh_core::{Error, Reason, Resent};
use mesh_lb::{CheckResult, Cluster, GrpcCheck, HealthCheck, HealthCheckKind, HttpCheck, Member, Picked};

use super::grpc;
use crate::{Body, connect::Connector};

/// Who asks, for access logs (Envoy's says `Envoy/HC`).
const USER_AGENT: HeaderValue = HeaderValue::from_static("mesh/HC");

/// An answer is read to its end, so that its connection can be used again, but no further than this.
const MAX_ANSWER: usize = 64 * 1024;

/// Ask, and wait for the answer no longer than the check's timeout.
pub(super) async fn ask(
    connector: &Connector,
    cluster: &Cluster,
    member: &Arc<Member>,
    check: &HealthCheck,
) -> CheckResult {
    let asked = async {
        match &check.kind {
            HealthCheckKind::Http(http) => of_http(connector, cluster, member, http).await,
            HealthCheckKind::Grpc(grpc) => of_grpc(connector, cluster, member, grpc).await,
            HealthCheckKind::Tcp => connector.reach(cluster, member).await.map(|()| CheckResult::Passed),
            // Of a version of mesh-lb that has more.
            _ => Ok(CheckResult::Skipped),
        }
    };
    match tokio::time::timeout(check.timeout, asked).await {
        Ok(Ok(result)) => result,
        Ok(Err(error)) => {
            tracing::debug!(target: "mesh::health", %error, endpoint = %member.endpoint().address, "no answer");
            if is_ours(&error) { CheckResult::Skipped } else { CheckResult::Unanswered }
        }
        // envoy onTimeoutBase: a failure of the network.
        Err(_) => CheckResult::Unanswered,
    }
}

/// Did this process run out of something? Then nobody was asked, and every endpoint of every cluster would be out.
fn is_ours(error: &Error) -> bool {
    /// The same number wherever there are sockets.
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    let mut causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| {
            // No port left of our own, or no memory.
            matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory)
                || matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
        })
    })
}

async fn of_http(
    connector: &Connector,
    cluster: &Cluster,
    member: &Arc<Member>,
    check: &HttpCheck,
) -> Result<CheckResult, Error> {
    let (head, _) = answer(connector, cluster, member, || {
        let mut request = Request::new(Body::empty());
        *request.method_mut() = check.method.clone();
        *request.uri_mut() = Uri::from(check.path.clone());
        request.headers_mut().extend(host(cluster, check.host.as_ref()).map(|host| (header::HOST, host)));
        request
    })
    .await?;
    Ok(check.result(head.status))
}

/// envoy GrpcHealthCheckerImpl::isHealthCheckSucceeded: status OK and SERVING; anything else that is an answer fails at
/// once.
async fn of_grpc(
    connector: &Connector,
    cluster: &Cluster,
    member: &Arc<Member>,
    check: &GrpcCheck,
) -> Result<CheckResult, Error> {
    let answered = answer(connector, cluster, member, || {
        let mut request = Request::new(Body::from(grpc::request(&check.service)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static(grpc::PATH);
        *request.version_mut() = Version::HTTP_2;
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.extend(host(cluster, check.authority.as_ref()).map(|host| (header::HOST, host)));
        request
    });
    let (head, body) = answered.await?;
    let Some(Answer { bytes, trailers }) = body else { return Ok(CheckResult::Failed) };
    let status = trailers.get("grpc-status").or_else(|| head.headers.get("grpc-status"));
    let well = head.status == StatusCode::OK && status.is_some_and(|status| status == "0") && grpc::serving(&bytes);
    Ok(if well { CheckResult::Passed } else { CheckResult::Failed })
}

/// envoy HttpHealthCheck.host: "If left empty (default value), the name of the cluster"; here, the service's host, which
/// its virtual hosts know.
fn host(cluster: &Cluster, configured: Option<&HeaderValue>) -> Option<HeaderValue> {
    configured.cloned().or_else(|| HeaderValue::from_str(&cluster.name().service.host).ok())
}

/// What came behind the head of a response.
struct Answer {
    bytes: Bytes,
    trailers: HeaderMap,
}

/// Send, and read to the end; no answer in the second place where the body is too long. A pooled connection that ended
/// under the request says nothing of the endpoint: once more, on a new one.
async fn answer(
    connector: &Connector,
    cluster: &Cluster,
    member: &Arc<Member>,
    request: impl Fn() -> Request<Body>,
) -> Result<(http::response::Parts, Option<Answer>), Error> {
    let send = |mut request: Request<Body>| {
        request.headers_mut().insert(header::USER_AGENT, USER_AGENT);
        connector.ask(Picked::new(request, Arc::clone(member), cluster.clone()))
    };
    let response: Response<_> = match send(request()).await {
        Err(error) if error.resend().is_some_and(|resend| !resend.is_fault()) => {
            let mut again = request();
            again.extensions_mut().insert(Resent);
            send(again).await?
        }
        answered => answered?,
    };
    let (head, body) = response.into_parts();
    match Limited::new(body, MAX_ANSWER).collect().await {
        Ok(collected) => {
            let trailers = collected.trailers().cloned().unwrap_or_default();
            Ok((head, Some(Answer { bytes: collected.to_bytes(), trailers })))
        }
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Ok((head, None)),
        Err(error) => Err(Error::new(Reason::Reset { request_sent: true }).with_source(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A check that this process could not make must not stop its traffic.
    #[test]
    fn a_process_without_sockets_says_nothing_of_endpoints() {
        for (cause, ours) in [
            (io::Error::from_raw_os_error(24), true),
            (io::Error::from_raw_os_error(23), true),
            (io::ErrorKind::AddrNotAvailable.into(), true),
            (io::ErrorKind::ConnectionRefused.into(), false),
            (io::ErrorKind::TimedOut.into(), false),
        ] {
            let error = Error::new(Reason::ConnectFailure).with_source(cause);
            assert_eq!(is_ours(&error), ours, "{error:?}");
        }
    }
}
