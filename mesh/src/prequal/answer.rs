//! The outermost layer of the inbound stack: takes questions away, and answers them.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use mesh_core::identity::PeerIdentity;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{Gauge, header};

/// Answers what clients with Prequal ask. See [the module](super).
#[derive(Clone, Debug)]
pub struct AnswerLoadLayer(pub(crate) Arc<Gauge>);

/// The service of [`AnswerLoadLayer`].
#[derive(Clone, Debug)]
pub struct AnswerLoad<S> {
    gauge: Arc<Gauge>,
    inner: S,
}

impl<S> Layer<S> for AnswerLoadLayer {
    type Service = AnswerLoad<S>;

    fn layer(&self, inner: S) -> AnswerLoad<S> {
        AnswerLoad { gauge: Arc::clone(&self.0), inner }
    }
}

impl<B, S, RB> Service<Request<B>> for AnswerLoad<S>
where
    S: Service<Request<B>, Response = Response<RB>>,
    RB: Body,
{
    type Response = Response<AnsweredBody<RB>>;
    type Error = S::Error;
    type Future = AnswerFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let asked = request.headers_mut().remove(header::LOAD);
        let Some(asked) = asked else { return AnswerFuture::called(self.inner.call(request), None) };
        let told = self.gauge.tells(request.extensions().get::<PeerIdentity>());
        if told && asked == header::PROBE {
            return AnswerFuture { state: State::Probed { report: Some(self.gauge.report()) } };
        }
        let gauge = (told && asked == header::REPORT).then(|| Arc::clone(&self.gauge));
        AnswerFuture::called(self.inner.call(request), Some(gauge))
    }
}

pin_project! {
    /// The future of [`AnswerLoad`].
    #[derive(Debug)]
    pub struct AnswerFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    #[derive(Debug)]
    enum State<F> {
        // A request. `tell`: the caller wrote a question, and who answers it, if anybody does.
        Called { #[pin] future: F, tell: Option<Option<Arc<Gauge>>> },
        Probed { report: Option<HeaderValue> },
    }
}

impl<F> AnswerFuture<F> {
    fn called(future: F, tell: Option<Option<Arc<Gauge>>>) -> Self {
        Self { state: State::Called { future, tell } }
    }
}

impl<F, E, RB> Future for AnswerFuture<F>
where
    F: Future<Output = Result<Response<RB>, E>>,
{
    type Output = Result<Response<AnsweredBody<RB>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (body, report) = match self.project().state.project() {
            StateProj::Called { future, tell } => {
                let mut response = ready!(future.poll(cx))?;
                if let Some(gauge) = tell.take() {
                    response.headers_mut().remove(header::LOAD);
                    let report = gauge.map(|gauge| gauge.report());
                    response.headers_mut().extend(report.map(|report| (header::LOAD, report)));
                }
                return Poll::Ready(Ok(response.map(|body| AnsweredBody { body: Some(body) })));
            }
            StateProj::Probed { report } => (AnsweredBody { body: None }, report.take()),
        };
        let mut response = Response::new(body);
        response.headers_mut().extend(report.map(|report| (header::LOAD, report)));
        Poll::Ready(Ok(response))
    }
}

pin_project! {
    /// A response's body, or that of an answer to a probe: nothing.
    #[derive(Debug)]
    pub struct AnsweredBody<B> {
        #[pin]
        body: Option<B>,
    }
}

impl<B: Body> Body for AnsweredBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        match self.project().body.as_pin_mut() {
            Some(body) => body.poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::StatusCode;
    use http_body_util::{BodyExt as _, Full};
    use mesh_core::clock;
    use tower::{ServiceBuilder, ServiceExt as _, service_fn};

    use super::{
        super::{CountLoadLayer, count::CountedLoadBody},
        *,
    };

    fn request(asks: Option<&'static str>, peer: bool) -> Request<String> {
        let mut request = Request::get("http://a/").body(String::new()).unwrap();
        request.headers_mut().extend(asks.map(|asks| (header::LOAD, HeaderValue::from_static(asks))));
        if peer {
            let id = "spiffe://cluster.local/ns/a/sa/b".parse().unwrap();
            request.extensions_mut().insert(PeerIdentity::new(id, clock::wall(), Arc::default()));
        }
        request
    }

    /// An application that forges the header, and fails where it sees one.
    fn stack(
        gauge: &Arc<Gauge>,
    ) -> impl Service<
        Request<String>,
        Response = Response<AnsweredBody<CountedLoadBody<Full<bytes::Bytes>>>>,
        Error = Infallible,
        Future: Send,
    > + Clone {
        let application = service_fn(async |request: Request<String>| {
            let seen = request.headers().contains_key(header::LOAD);
            let status = if seen { StatusCode::IM_A_TEAPOT } else { StatusCode::OK };
            let response = Response::builder().status(status).header(header::LOAD, "7 7");
            Ok::<_, Infallible>(response.body(Full::from("hello")).unwrap())
        });
        ServiceBuilder::new()
            .layer(AnswerLoadLayer(Arc::clone(gauge)))
            .layer(CountLoadLayer(Arc::clone(gauge)))
            .service(application)
    }

    #[tokio::test]
    async fn who_proved_an_identity_is_answered_and_the_application_sees_nothing() {
        for (asks, peer, identity, told, body) in [
            (Some("report"), true, true, Some("1 0"), "hello"),
            (Some("probe"), true, true, Some("0 0"), ""),
            // A stranger, and a question that nobody knows.
            (Some("report"), false, true, None, "hello"),
            (Some("probe"), false, true, None, "hello"),
            (Some("what"), true, true, None, "hello"),
            // A server that cannot tell who asks.
            (Some("probe"), false, false, Some("0 0"), ""),
            // Nobody asked: what the application writes is its own business.
            (None, true, true, Some("7 7"), "hello"),
        ] {
            let gauge = Arc::new(Gauge::new(identity));
            let _ = gauge.report();
            let response = stack(&gauge).oneshot(request(asks, peer)).await.unwrap();
            assert_eq!(response.status(), 200, "{asks:?}: the application saw the header");
            let header = response.headers().get(header::LOAD).map(|value| value.to_str().unwrap().to_owned());
            let header = header.map(|text| if text.starts_with("1 ") { "1 0".to_owned() } else { text });
            assert_eq!(header.as_deref(), told, "{asks:?} {peer} {identity}");
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), body, "{asks:?}");
        }
    }

    /// Both layers are made anew for each connection, and count into one.
    #[tokio::test]
    async fn requests_count_until_their_bodies_end_whichever_layer_they_came_through() {
        let gauge = Arc::new(Gauge::new(true));
        let rif = || gauge.report().to_str().unwrap().split(' ').next().unwrap().to_owned();
        let before = stack(&gauge).oneshot(request(None, true)).await.unwrap();
        assert_eq!(rif(), "0", "nobody had asked");
        drop(before);
        let first = stack(&gauge).oneshot(request(None, true)).await.unwrap();
        let second = stack(&gauge).oneshot(request(None, true)).await.unwrap();
        assert_eq!(rif(), "2");
        let _ = first.into_body().collect().await.unwrap();
        assert_eq!(rif(), "1", "read to the end");
        drop(second);
        assert_eq!(rif(), "0", "given up");
    }
}
