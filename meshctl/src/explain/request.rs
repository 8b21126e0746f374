//! A request from text.

use http::{HeaderName, HeaderValue, Method, Request, Uri, header::HOST};

/// A request as a hyper client would be given it.
pub(super) fn request<'a>(
    method: &str,
    url: &str,
    headers: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Request<()>, String> {
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(method.as_bytes()).map_err(|_| format!("{method:?} is not a method"))?;
    let uri: Uri = url.parse().map_err(|error| format!("{url:?} is not a URL: {error}"))?;
    let whole = uri.scheme().is_some() || uri.authority().is_none() || request.method() == Method::CONNECT;
    if !whole {
        return Err(format!("{url:?} is not a URL: it begins with http://, or is a path and begins with /"));
    }
    *request.uri_mut() = uri;
    for (name, value) in headers {
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is not a header's name"))?;
        let text = HeaderValue::from_bytes(value.as_bytes());
        let text = text.map_err(|_| format!("the value of header {name} has a character that no header may have"))?;
        request.headers_mut().append(key, text);
    }
    if request.uri().authority().is_none() && !request.headers().contains_key(HOST) {
        return Err(format!("{url:?} names no host, and there is no Host header"));
    }
    Ok(request)
}

/// `name: value`.
pub(super) fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("a name and a value are needed, as in 'end-user: jason'")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

pub(super) fn roll_of_text(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "a number is needed".to_owned()).and_then(roll)
}

/// From 0 up to 1; 1 itself is taken for the largest number below it.
pub(super) fn roll(roll: f64) -> Result<f64, String> {
    if (0.0..=1.0).contains(&roll) { Ok(roll) } else { Err(format!("roll {roll} is not between 0 and 1")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_no_request() {
        let of = |method, url, headers: &[(&'static str, &'static str)]| {
            request(method, url, headers.iter().copied()).map(|request| request.uri().to_string())
        };
        assert_eq!(of("GET", "http://a:9080/a//b%2F?x#f", &[]).unwrap(), "http://a:9080/a//b%2F?x");
        assert_eq!(of("GET", "/é", &[("host", "a")]).unwrap(), "/é");
        assert_eq!(of("CONNECT", "a:443", &[]).unwrap(), "a:443");
        assert_eq!(of("OPTIONS", "*", &[("Host", "a")]).unwrap(), "*");
        for (method, url, headers, message) in [
            ("G T", "http://a", &[][..], "is not a method"),
            ("GET", "http://a b/", &[], "is not a URL"),
            ("GET", "", &[], "is not a URL"),
            ("GET", "a:80", &[], "begins with http://"),
            ("GET", "/a", &[], "names no host"),
            ("GET", "http://a", &[("a b", "c")], "is not a header's name"),
            ("GET", "http://a", &[("a", "b\nc")], "no header may have"),
        ] {
            assert!(of(method, url, headers).unwrap_err().contains(message), "{method} {url}");
        }
        for bad in [-0.1, 1.1, f64::NAN] {
            assert!(roll(bad).is_err());
        }
        assert_eq!((roll(0.0), roll(1.0)), (Ok(0.0), Ok(1.0)));
    }
}
