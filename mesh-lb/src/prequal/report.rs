use std::time::Duration;

/// What a server says of its load: a probe's answer, or a signal on a response.
///
/// ```
/// use std::time::Duration;
/// let report = mesh_lb::LoadReport::new(3, Duration::from_millis(12));
/// assert_eq!((report.rif, report.latency), (3, Duration::from_millis(12)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadReport {
    /// Requests in flight.
    pub rif: u32,
    /// The latency to expect at that number; zero when the server does not know.
    pub latency: Duration,
}

impl LoadReport {
    /// So many requests in flight, and what they take.
    #[must_use]
    pub fn new(rif: u32, latency: Duration) -> Self {
        Self { rif, latency }
    }
}
