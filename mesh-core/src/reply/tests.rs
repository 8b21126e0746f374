use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use tower::{ServiceBuilder, ServiceExt, service_fn};

use super::*;
use crate::{Exchange, ResponseFlag};

async fn reply(reason: Reason, content_type: &str) -> (http::response::Parts, Bytes) {
    let failing = service_fn(move |_: Request<()>| async move { Err::<Response<Empty<Bytes>>, _>(Error::new(reason)) });
    let service = ServiceBuilder::new().layer(LocalReplyLayer).service(failing);
    let request = Request::get("http://a/").header("content-type", content_type).body(()).unwrap();
    let (parts, body) = service.oneshot(request).await.unwrap().into_parts();
    (parts, body.collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn each_reason_has_envoys_status_body_and_flag() {
    // Measured on Envoy 1.40: t2 (no route), t4 (fault, rbac, missing cluster), t3 (timeout), t5 (overflow), t6 (no host).
    let upstream = "upstream connect error or disconnect/reset before headers. reset reason: ";
    for (reason, status, body, flag) in [
        (Reason::NoRoute, 404, String::new(), "NR"),
        (Reason::NoCluster, 503, String::new(), "NC"),
        (Reason::InvalidBackend, 500, String::new(), "NC"),
        (Reason::Blackhole, 502, String::new(), "-"),
        (Reason::NoHealthyUpstream, 503, "no healthy upstream".into(), "UH"),
        (Reason::Overflow, 503, format!("{upstream}overflow"), "UO"),
        (Reason::ConnectFailure, 503, format!("{upstream}remote connection failure"), "UF"),
        (Reason::Reset { request_sent: true }, 503, format!("{upstream}connection termination"), "UC"),
        (Reason::Timeout, 504, "upstream request timeout".into(), "UT"),
        (Reason::FaultAbort(StatusCode::from_u16(555).unwrap()), 555, "fault filter abort".into(), "FI"),
        (Reason::FaultAbortGrpc(14), 200, "fault filter abort".into(), "FI"),
        (Reason::Denied, 403, "RBAC: access denied".into(), "-"),
        (Reason::RateLimited, 429, "local_rate_limited".into(), "RL"),
    ] {
        let (parts, got) = reply(reason, "text/plain").await;
        assert_eq!(parts.status.as_u16(), status, "{reason:?}");
        assert_eq!(got, body.as_bytes(), "{reason:?}");
        assert_eq!(parts.headers["content-length"], body.len().to_string().as_str());
        assert_eq!(parts.extensions.get::<Exchange>().unwrap().flags.to_string(), flag, "{reason:?}");
        assert_eq!(parts.headers.contains_key("x-envoy-overloaded"), reason == Reason::Overflow);
    }
}

#[tokio::test]
async fn a_grpc_caller_gets_trailers_only() {
    // Measured on Envoy 1.40: t3 (timeout is 14), t4 (555 is 2), t1 (no route is 12).
    for (reason, status) in [
        (Reason::NoRoute, "12"),
        (Reason::Timeout, "14"),
        (Reason::Denied, "7"),
        (Reason::FaultAbort(StatusCode::from_u16(555).unwrap()), "2"),
        (Reason::FaultAbortGrpc(5), "5"),
    ] {
        let (parts, body) = reply(reason, "application/grpc+proto").await;
        assert_eq!(parts.status, 200);
        assert_eq!(parts.headers["grpc-status"], status, "{reason:?}");
        assert_eq!(parts.headers["content-type"], "application/grpc");
        assert!(body.is_empty());
    }
    assert!(!grpc::is_grpc(&HeaderMap::from_iter([(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpcx")
    )])));
}

#[tokio::test]
async fn what_ended_a_retry_is_told_apart() {
    // measured on Envoy 1.40 (interop)
    for (attempts, what) in [(1, "reset reason"), (2, "retried and the latest reset reason")] {
        let failing = service_fn(move |_: Request<()>| async move {
            let mut error = Error::new(Reason::ConnectFailure);
            error.exchange_mut().attempts = attempts;
            error.edit_reply(|headers| drop(headers.insert("x", HeaderValue::from_static("edited"))));
            Err::<Response<Empty<Bytes>>, _>(error)
        });
        let response = LocalReplyLayer.layer(failing).oneshot(Request::new(())).await.unwrap();
        assert_eq!(response.headers()["x"], "edited");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let expected =
            format!("upstream connect error or disconnect/reset before headers. {what}: remote connection failure");
        assert_eq!(body, expected.as_bytes());
    }
}

#[tokio::test]
async fn a_foreign_error_is_a_connection_that_ended() {
    let failing = service_fn(|_: Request<()>| async { Err::<Response<Empty<Bytes>>, BoxError>("boom".into()) });
    let response = LocalReplyLayer.layer(failing).oneshot(Request::new(())).await.unwrap();
    assert_eq!(response.status(), 503);
    assert!(Exchange::of(&mut response.map(drop)).flags.contains(ResponseFlag::UpstreamConnectionTermination));
}

#[tokio::test]
async fn a_route_answers_with_what_it_says() {
    // Measured on Envoy 1.40 (t2, direct response): `/b 418 'teapot'`, `/n 204` without content-length, `/ct` with its
    // own content-type, `/555` with content-length 0, `HEAD /b` with content-length 6 and no body.
    let answer = |method: &str, status: u16, body: &'static str, content_type: Option<&'static str>| {
        let failing = service_fn(move |_: Request<()>| async move {
            let mut error = Error::answer(StatusCode::from_u16(status).unwrap(), Bytes::from_static(body.as_bytes()));
            error.edit_reply(move |headers| {
                if let Some(content_type) = content_type {
                    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
                }
            });
            Err::<Response<Empty<Bytes>>, _>(error)
        });
        let request = Request::builder().method(method).uri("http://a/").body(()).unwrap();
        async move {
            let (parts, body) = LocalReplyLayer.layer(failing).oneshot(request).await.unwrap().into_parts();
            let header = |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            let exchange = parts.extensions.get::<Exchange>().unwrap();
            assert_eq!((exchange.flags.to_string().as_str(), exchange.details), ("-", "direct_response"));
            let body = body.collect().await.unwrap().to_bytes();
            (parts.status.as_u16(), body, header("content-type"), header("content-length"))
        }
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(answer("GET", 418, "teapot", None).await, (418, "teapot".into(), some("text/plain"), some("6")));
    assert_eq!(answer("HEAD", 418, "teapot", None).await, (418, "".into(), some("text/plain"), some("6")));
    assert_eq!(answer("GET", 204, "", None).await, (204, "".into(), None, None));
    assert_eq!(answer("GET", 555, "", None).await, (555, "".into(), None, some("0")));
    assert_eq!(answer("GET", 200, "", Some("application/json")).await, (200, "".into(), None, some("0")));
    let json = answer("GET", 200, "{}", Some("application/json")).await;
    assert_eq!(json, (200, "{}".into(), some("application/json"), some("2")));
}
