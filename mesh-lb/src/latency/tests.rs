use std::sync::Arc;

use super::*;

const TAU: f64 = 10e9;
const MS: u64 = 1_000_000;
const MEMBERS: usize = 10;

/// One service of ten endpoints.
struct Service {
    outcomes: Outcomes,
    now: u64,
    other: Arc<Latency>,
}

impl Service {
    fn new() -> Self {
        Self { outcomes: Outcomes::default(), now: 0, other: Arc::default() }
    }

    fn at(&self) -> Moment {
        Moment { now: self.now, ended: self.outcomes.ended() }
    }

    /// One request after the other.
    fn request(&mut self, endpoint: &Latency, how: Ended, took: u64) {
        let sent = self.send(endpoint);
        self.now += took;
        self.end(endpoint, how, sent);
    }

    fn send(&self, endpoint: &Latency) -> u64 {
        endpoint.sent(self.at(), TAU, || MEMBERS);
        self.now
    }

    fn end(&self, endpoint: &Latency, how: Ended, sent: u64) {
        endpoint.ended(how, sent, self.at(), TAU, &self.outcomes, || MEMBERS);
    }

    /// So many successes of the others.
    fn others(&mut self, requests: usize) {
        let other = Arc::clone(&self.other);
        (0..requests).for_each(|_| self.request(&other, Ended::Answered, 10));
    }

    fn avoids(&self, endpoint: &Latency) -> bool {
        endpoint.is_avoided(self.at())
    }
}

fn load(endpoint: &Latency, now: u64, in_flight: u32, weight: f64) -> f64 {
    endpoint.load(&PeakEwma::default(), now, 0, in_flight, weight) / MS as f64
}

/// finagle PeakEwma: cost x (pending + 1); without history, a penalty while the first request is out.
#[test]
fn load_is_cost_times_requests() {
    let (mut service, endpoint) = (Service::new(), Latency::default());
    assert_eq!(load(&endpoint, 0, 0, 1.0), 30.0, "linkerd's default");
    assert!(load(&endpoint, 10_000 * MS, 0, 1.0) < 12.0, "it waits no longer than others' latency is short");
    assert!(load(&endpoint, 0, 1, 1.0) > 1e7);
    assert!(load(&endpoint, 0, 2, 1.0) > load(&endpoint, 0, 1, 1.0));
    service.request(&endpoint, Ended::Answered, 20 * MS);
    let at = |in_flight, weight| load(&endpoint, service.now, in_flight, weight);
    assert_eq!((at(0, 1.0), at(3, 1.0)), (20.0, 80.0));
    assert_eq!((at(0, 4.0), at(4, 4.0)), (20.0, 40.0), "four times the weight carries four times the requests");
}

/// What waits is a censored sample: the oldest request waits at least since the last answer.
#[test]
fn a_silent_endpoint_costs_its_silence() {
    let (mut service, endpoint) = (Service::new(), Latency::default());
    service.request(&endpoint, Ended::Answered, 10 * MS);
    service.now += 5_000 * MS;
    let first = service.send(&endpoint);
    assert!(load(&endpoint, service.now, 1, 1.0) < 21.0, "asked only now");
    service.now += 300 * MS;
    let second = service.send(&endpoint);
    assert_eq!(load(&endpoint, service.now, 1, 1.0), 600.0);
    service.now += 100 * MS;
    service.end(&endpoint, Ended::Answered, second);
    assert_eq!(load(&endpoint, service.now, 0, 1.0), 100.0, "it spoke");
    service.now += 100 * MS;
    service.end(&endpoint, Ended::Abandoned, first);
    assert_eq!(endpoint.silence(service.now, TAU), 0.0);
    assert_eq!(load(&endpoint, service.now, 0, 1.0), 500.0, "at least as long as the one that was given up");
}

/// A request that nobody ends does not take its endpoint out of service for ever.
#[test]
fn a_silence_is_forgotten() {
    let (mut service, endpoint) = (Service::new(), Latency::default());
    service.request(&endpoint, Ended::Answered, 10 * MS);
    service.send(&endpoint);
    service.now += 10_000 * MS;
    assert_eq!(endpoint.silence(service.now, TAU), TAU);
    service.now += 90_000 * MS;
    assert!(endpoint.silence(service.now, TAU) < 2.0 * MS as f64);
    service.send(&endpoint);
    service.now += 50 * MS;
    assert_eq!(endpoint.silence(service.now, TAU), 50.0 * MS as f64, "asked again, and silent again");
    endpoint.forgotten();
    endpoint.forgotten();
    assert_eq!(endpoint.silence(service.now, TAU), 0.0, "nobody waits");
}

#[test]
fn the_first_failure_is_unusual_where_nothing_fails() {
    let (mut service, endpoint) = (Service::new(), Latency::default());
    service.others(2_000);
    service.request(&endpoint, Ended::Failed, 1);
    assert!(service.avoids(&endpoint));
    assert!(!Service::new().avoids(&Latency::default()));
}

/// For 128 requests that it would have had; then one tries, and the others wait for it.
#[test]
fn it_is_tried_again_by_one() {
    let (mut service, endpoint) = (Service::new(), Latency::default());
    service.others(2_000);
    service.request(&endpoint, Ended::Failed, 1);
    service.others(128 * MEMBERS - 16);
    assert!(service.avoids(&endpoint));
    service.others(32);
    assert!(!service.avoids(&endpoint));
    let trial = service.send(&endpoint);
    assert!(service.avoids(&endpoint), "one at a time");
    service.end(&endpoint, Ended::Failed, trial);
    service.others(2 * 128 * MEMBERS - 16);
    assert!(service.avoids(&endpoint), "twice as long");
    service.others(32);
    assert!(!service.avoids(&endpoint));
    service.request(&endpoint, Ended::Answered, 10);
    service.others(16);
    assert!(!service.avoids(&endpoint));
    service.request(&endpoint, Ended::Answered, 10);
    assert!(!service.avoids(&endpoint), "a success ends the matter");
}

#[test]
fn it_is_avoided_for_a_minute_at_most() {
    let (mut service, endpoint) = (Service::new(), Latency::default());
    service.request(&endpoint, Ended::TimedOut, 1_000 * MS);
    service.now += 59_999 * MS;
    assert!(service.avoids(&endpoint));
    service.now += MS;
    assert!(!service.avoids(&endpoint));
}

/// What was under way when it was decided says nothing new.
#[test]
fn requests_sent_before_are_one_strike() {
    let (mut service, endpoint) = (Service::new(), Latency::default());
    service.others(2_000);
    let sent: Vec<_> = (0..10).map(|_| service.send(&endpoint)).collect();
    service.now += MS;
    sent.into_iter().for_each(|sent| service.end(&endpoint, Ended::Failed, sent));
    service.others(128 * MEMBERS + 16);
    assert!(!service.avoids(&endpoint));
}

/// p^k <= 1/1000: where one in ten fails everywhere, it takes three in a row.
#[test]
fn what_fails_everywhere_is_nobodys_fault() {
    let (mut service, endpoint, other) = (Service::new(), Latency::default(), Latency::default());
    for n in 0..20_000 {
        service.request(&other, if n % 10 == 0 { Ended::Failed } else { Ended::Answered }, 10);
    }
    service.request(&endpoint, Ended::Failed, 1);
    service.request(&endpoint, Ended::Failed, 1);
    assert!(!service.avoids(&endpoint));
    service.request(&endpoint, Ended::Failed, 1);
    service.request(&endpoint, Ended::Failed, 1);
    assert!(service.avoids(&endpoint));
}

/// A sinkhole gets less than 1 % of what would be its share.
#[test]
fn less_than_one_in_a_hundred_goes_to_who_fails() {
    let (mut service, endpoint) = (Service::new(), Latency::default());
    let mut failed = 0;
    for _ in 0..3_000 {
        // Its turn comes with every tenth request.
        if !service.avoids(&endpoint) {
            service.request(&endpoint, Ended::Failed, 1);
            failed += 1;
        }
        service.others(MEMBERS - 1);
    }
    assert!((1..30).contains(&failed), "{failed} of 3,000");
}

#[test]
fn who_went_away_blames_nobody() {
    let (mut service, endpoint) = (Service::new(), Latency::default());
    service.request(&endpoint, Ended::Abandoned, 40 * MS);
    assert!(!service.avoids(&endpoint));
    assert_eq!(load(&endpoint, service.now, 0, 1.0), 40.0);
}

/// Prequal: who answers ten times slower than promised is no better than who fails.
#[test]
fn a_broken_promise_is_a_failure() {
    let (mut service, endpoint) = (Service::new(), Latency::default());
    service.others(2_000);
    service.request(&endpoint, Ended::Answered, 2_000 * MS);
    assert!(!service.avoids(&endpoint), "nothing was promised");
    endpoint.promise(10 * MS, service.now + 1_000 * MS);
    service.request(&endpoint, Ended::Answered, 100 * MS);
    assert!(!service.avoids(&endpoint));
    let other = Latency::default();
    other.promise(10 * MS, service.now);
    service.request(&other, Ended::Answered, 2_000 * MS);
    assert!(!service.avoids(&other), "that was promised to earlier requests");
    endpoint.promise(10 * MS, service.now + 50 * MS);
    service.request(&endpoint, Ended::Answered, 100 * MS + 1);
    assert!(service.avoids(&endpoint), "what was promised when it was sent");
}

/// Hostile: clocks that go back, times without end.
#[test]
fn nothing_overflows() {
    let (service, endpoint) = (Service::new(), Latency::default());
    for (sent, now) in [(u64::MAX, 0), (0, u64::MAX), (5, 4), (u64::MAX, u64::MAX)] {
        for how in [Ended::Answered, Ended::Failed, Ended::TimedOut, Ended::Abandoned] {
            let at = Moment { now, ended: u64::MAX };
            endpoint.sent(at, TAU, || usize::MAX);
            endpoint.ended(how, sent, at, TAU, &service.outcomes, || usize::MAX);
            let load = endpoint.load(&PeakEwma::default(), now, 0, u32::MAX, 1e-9);
            assert!(load.is_finite() && load >= 0.0, "{load}");
        }
    }
    assert_eq!(endpoint.silence.waiting(), 0);
}
