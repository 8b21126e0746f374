//! mesh-lb in front of any HTTP client: the chosen endpoint becomes the URI's authority.

use std::task::{Context, Poll};

use http::{HeaderValue, Request, header::HOST, uri::Authority};
use tower_layer::Layer;
use tower_service::Service;

use crate::Picked;

/// Writes the chosen endpoint into the URI and hands the bare request on.
///
/// The `Host` header stays, or is made from the authority that the URI had. For clients that dial what the URI
/// says: they pool by address, so their connections are per endpoint, but they cannot check an endpoint's
/// identity, and `https` would check the certificate against an IP address.
///
/// ```
/// # use std::sync::Arc;
/// # use mesh_core::{ClusterName, Endpoint, EndpointAddress, ServiceName};
/// # use mesh_lb::{Cluster, Picked, ToEndpoint};
/// use tower::{Service, ServiceBuilder, service_fn};
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// # let name = ClusterName { service: ServiceName::of_host("reviews", "default"), port: 80, subset: None };
/// # let endpoint = Arc::new(Endpoint::new(EndpointAddress::new("10.0.0.1", 9080)));
/// # let cluster = Cluster::new(name, Default::default(), vec![endpoint]);
/// # let member = cluster.members()[0].clone();
/// let mut client = ServiceBuilder::new().layer(ToEndpoint).service(service_fn(async |request: http::Request<()>| {
///     assert_eq!(request.uri(), "http://10.0.0.1:9080/reviews/0");
///     assert_eq!(request.headers()["host"], "reviews");
///     Ok::<_, std::convert::Infallible>(())
/// }));
/// let request = http::Request::get("http://reviews/reviews/0").body(()).unwrap();
/// client.call(Picked::new(request, member, cluster)).await.unwrap();
/// # });
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ToEndpoint;

impl<S> Layer<S> for ToEndpoint {
    type Service = WithEndpoint<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WithEndpoint { inner }
    }
}

/// The service of [`ToEndpoint`].
#[derive(Clone, Debug)]
pub struct WithEndpoint<S> {
    inner: S,
}

impl<B, S> Service<Picked<Request<B>>> for WithEndpoint<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, picked: Picked<Request<B>>) -> Self::Future {
        let Picked { mut request, member, .. } = picked;
        if !request.headers().contains_key(HOST)
            && let Some(host) = request.uri().authority().and_then(host_header)
        {
            request.headers_mut().insert(HOST, host);
        }
        mesh_core::set_authority(request.uri_mut(), &member.endpoint().address.to_string());
        self.inner.call(request)
    }
}

/// RFC 9110 7.2: the authority without user information.
fn host_header(authority: &Authority) -> Option<HeaderValue> {
    let authority = authority.as_str();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    HeaderValue::from_str(host).ok()
}
