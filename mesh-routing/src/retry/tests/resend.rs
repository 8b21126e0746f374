//! What is sent again outside of the policy, and what a reply says that ended the retries.

use mesh_core::{LocalReplyLayer, RETRIES_EXHAUSTED, Resend, Resent};

use super::*;

/// What the service was asked: attempt number, endpoints to avoid, attempt header, resent, body.
type Asked = (u32, usize, String, bool, Bytes);

/// Requests whose first `ended` sendings meet the end of a connection at an endpoint, the others get `then`.
async fn meet(
    ended: usize,
    then: Outcome,
    policy: RoutePolicy,
    cap: usize,
) -> (Result<Response<()>, Error>, Vec<Asked>) {
    let log: Arc<Mutex<Vec<Asked>>> = Arc::default();
    let seen = Arc::clone(&log);
    let endpoint = Arc::new(Endpoint::new("127.0.0.1:1".parse::<std::net::SocketAddr>().unwrap()));
    let service = RetryLayer::new().with_body_cap(cap).layer(service_fn(move |routed: Inner<Full<Bytes>>| {
        let (seen, endpoint) = (Arc::clone(&seen), Arc::clone(&endpoint));
        async move {
            let (head, body) = routed.request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let count = head.headers["x-envoy-attempt-count"].to_str().unwrap().to_owned();
            let resent = head.extensions.get::<Resent>().is_some();
            let mut seen = seen.lock().unwrap();
            seen.push((routed.attempt.number, routed.attempt.tried.len(), count, resent, body));
            if seen.len() > ended {
                return then();
            }
            let mut error = Error::new(Reason::Reset { request_sent: true }).with_resend(Some(Resend::ConnectionEnded));
            error.exchange_mut().endpoint = Some(endpoint);
            Err(error)
        }
    }));
    let outcome = service.oneshot(routed(Full::from("hello"), policy)).await;
    let log = std::mem::take(&mut *log.lock().unwrap());
    (outcome, log)
}

fn row(number: u32, avoided: usize, resent: bool) -> Asked {
    (number, avoided, (number + 1).to_string(), resent, "hello".into())
}

#[tokio::test(start_paused = true)]
async fn a_resend_is_the_same_attempt_and_needs_no_policy() {
    for policy in [RoutePolicy::default(), policy(0, "reset"), policy(1, "5xx")] {
        let (outcome, asked) = meet(1, OK, policy, 5).await;
        assert_eq!(Exchange::of(&mut outcome.unwrap()).attempts, 1);
        // Somewhere else, if it can be.
        assert_eq!(asked, [row(0, 0, false), row(0, 1, true)]);
    }
    // RFC 9110 9.2.2: "A client SHOULD NOT automatically retry a failed automatic retry."
    let (outcome, asked) = meet(2, OK, RoutePolicy::default(), 5).await;
    assert_eq!((outcome.unwrap_err().exchange().attempts, asked.len()), (1, 2));
    // What failed again is the policy's to retry, with the resend of another attempt spent.
    let (outcome, asked) = meet(3, OK, policy(2, "reset"), 5).await;
    assert_eq!(Exchange::of(&mut outcome.unwrap()).attempts, 3);
    assert_eq!(asked, [row(0, 0, false), row(0, 1, true), row(1, 1, false), row(2, 2, false)]);
}

#[tokio::test(start_paused = true)]
async fn past_the_cap_nothing_is_resent() {
    let (outcome, asked) = meet(1, OK, RoutePolicy::default(), 4).await;
    assert_eq!(outcome.unwrap_err().exchange().flags.to_string(), "UC");
    assert_eq!(asked.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_marked_is_not_resent() {
    let (outcome, asked) = meet(0, RESET, RoutePolicy::default(), 5).await;
    assert_eq!((outcome.unwrap_err().exchange().attempts, asked.len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_resend_asks_no_budget() {
    let budget = Budget(Arc::new(ClusterName::passthrough()), Arc::new(AtomicU32::new(1)));
    let service = RetryLayer::new().layer(service_fn(|routed: Inner<Empty<Bytes>, Budget>| async move {
        match routed.request.extensions().get::<Resent>() {
            Some(_) => status(200),
            None => Err(Error::new(Reason::RefusedStream).with_resend(Some(Resend::Refused))),
        }
    }));
    let request = Request::get("http://a/").body(Empty::<Bytes>::new()).unwrap();
    let outcome = service.oneshot(Routed::new(request, budget, Arc::new(policy(3, "5xx")))).await;
    assert_eq!(outcome.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_resend_gets_no_time_of_its_own() {
    let service = RetryLayer::new().layer(service_fn(|routed: Inner<Empty<Bytes>>| async move {
        tokio::time::sleep(Duration::from_millis(150)).await;
        match routed.request.extensions().get::<Resent>() {
            Some(_) => status(200),
            None => Err(Error::new(Reason::RefusedStream).with_resend(Some(Resend::Refused))),
        }
    }));
    let retry = RetryPolicy::new(0, RetryOn::parse("5xx").unwrap()).with_per_try_timeout(Duration::from_millis(200));
    let started = Instant::now();
    let error = service.oneshot(routed(Empty::new(), RoutePolicy::default().with_retry(retry))).await.unwrap_err();
    assert_eq!((error.reason(), started.elapsed()), (Reason::PerTryTimeout, Duration::from_millis(200)));
}

/// The final reply is Envoy's, and says in a header of ours what ended the retries.
#[tokio::test(start_paused = true)]
async fn a_reply_that_ended_the_retries_says_so() {
    for (outcome, by) in [
        (E503 as Outcome, Some("limit")),
        (REFUSED, Some("limit")),
        (OK, None),
        // Not retried at all.
        (|| status(404), None),
    ] {
        let service = RetryLayer::new().layer(service_fn(move |_: Inner<Empty<Bytes>>| async move {
            outcome().map(|response| response.map(|()| Empty::<Bytes>::new()))
        }));
        // As the stack does: an error becomes the reply that carries the header.
        let service = tower::service_fn(move |request: Request<()>| {
            let routed = routed(Empty::new(), policy(1, "5xx"));
            drop(request);
            service.clone().oneshot(routed)
        });
        let response = LocalReplyLayer.layer(service).oneshot(Request::new(())).await.unwrap();
        let said = response.headers().get(RETRIES_EXHAUSTED).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(said.as_deref(), by);
        let flags = response.extensions().get::<Exchange>().unwrap().flags;
        assert_eq!(flags.contains(ResponseFlag::UpstreamRetryLimitExceeded), by.is_some());
    }
    let none_left = Budget(Arc::new(ClusterName::passthrough()), Arc::new(AtomicU32::new(1)));
    let service = RetryLayer::new().layer(service_fn(|_: Inner<Empty<Bytes>, Budget>| async { E503() }));
    let request = Request::get("http://a/").body(Empty::<Bytes>::new()).unwrap();
    let response = service.oneshot(Routed::new(request, none_left, Arc::new(policy(3, "5xx")))).await.unwrap();
    assert_eq!(response.headers()[RETRIES_EXHAUSTED], "budget");
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_ended_retries_below_is_not_retried_above() {
    let outcome: Outcome = || Ok(Response::builder().status(503).header(RETRIES_EXHAUSTED, "limit").body(()).unwrap());
    let (response, log) = run(Empty::<Bytes>::new(), policy(2, "5xx"), vec![outcome, OK]).await;
    let mut response = response.unwrap();
    assert_eq!((response.status().as_u16(), log.len()), (503, 1));
    // Whoever is further above learns of it too; retries did not end here.
    assert_eq!(response.headers()[RETRIES_EXHAUSTED], "limit");
    assert_eq!(Exchange::of(&mut response).flags.to_string(), "-");
}
