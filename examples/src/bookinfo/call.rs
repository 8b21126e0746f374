//! One call to another service: a GET that gives JSON within a time, or the reason why not.

use std::{fmt, pin::pin, time::Duration};

use axum::http::{HeaderValue, Request, StatusCode};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use tower::ServiceExt;

use super::app::{AppClient, END_USER};

/// Far above any answer of bookinfo; keeps a wrong answer from filling memory.
const MAX_ANSWER: usize = 1 << 20;

/// Why a call gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallError {
    /// No whole answer in time.
    Timeout,
    /// Answered with another status than 200. A call that the mesh could not place is a 503 here, as behind a sidecar.
    Status(StatusCode),
    /// 200, but not the JSON it should be.
    Unreadable,
}

impl CallError {
    /// The status that productpage's API answers with.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Status(status) if status.as_u16() >= 400 => status,
            Self::Status(_) | Self::Timeout | Self::Unreadable => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no answer in time"),
            Self::Status(status) => write!(f, "answered {}", status.as_u16()),
            Self::Unreadable => f.write_str("answered with something else than JSON"),
        }
    }
}

/// GET `url` on behalf of `end_user`. The timeout covers the body, and giving up ends the request.
pub(super) async fn get_json<T: DeserializeOwned>(
    client: &AppClient,
    url: &str,
    end_user: Option<&HeaderValue>,
    timeout: Duration,
) -> Result<T, CallError> {
    tokio::time::timeout(timeout, fetch(client, url, end_user)).await.unwrap_or(Err(CallError::Timeout))
}

async fn fetch<T: DeserializeOwned>(
    client: &AppClient,
    url: &str,
    end_user: Option<&HeaderValue>,
) -> Result<T, CallError> {
    let mut request = Request::get(url);
    if let Some(user) = end_user {
        request = request.header(END_USER, user);
    }
    let request = request.body(mesh::Body::empty()).expect("bookinfo's URLs are a constant and a number");
    let Ok(response) = client.clone().oneshot(request).await;
    if response.status() != StatusCode::OK {
        return Err(CallError::Status(response.status()));
    }
    let body = read(response.into_body()).await.ok_or(CallError::Unreadable)?;
    serde_json::from_slice(&body).map_err(|_| CallError::Unreadable)
}

/// The whole body; `None` where it breaks off or is too long.
async fn read(body: mesh::ResponseBody) -> Option<Vec<u8>> {
    let mut body = pin!(body);
    let mut answer = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.ok()?.into_data() {
            if answer.len() + data.len() > MAX_ANSWER {
                return None;
            }
            answer.extend_from_slice(&data);
        }
    }
    Some(answer)
}
