use mesh_core::{Endpoint, EndpointAddress};
use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;

fn members(count: usize) -> Vec<Arc<Member>> {
    let endpoint = |n: usize| {
        let address = format!("10.0.{}.{}", n / 250, n % 250 + 1);
        Arc::new(Endpoint::new(EndpointAddress::new(&address, 80)))
    };
    (0..count).map(|n| Member::new(endpoint(n), Arc::default())).collect()
}

/// A pool over some members, of whom all are usable and none is silent.
struct Client {
    pool: Pool,
    members: Vec<Arc<Member>>,
}

impl Client {
    fn new(members_: usize, settings: Prequal) -> Self {
        Self { pool: Pool::new(Arc::new(settings)), members: members(members_) }
    }

    fn report(&self, member: usize, rif: u32, latency: u64, now: u64) {
        let report = LoadReport::new(rif, Duration::from_nanos(latency));
        self.pool.report(&self.members[member], report, now, self.members.len());
    }

    fn know(&self, member: &Arc<Member>) -> Option<Candidate> {
        let index = self.members.iter().position(|known| Arc::ptr_eq(known, member))?;
        Some(Candidate { index, usable: true, silence: 0, in_flight: member.in_flight() })
    }

    /// A request that stays.
    fn choose(&self, now: u64) -> Option<usize> {
        let chosen = self.pool.choose(now, self.members.len(), |member| self.know(member));
        chosen.inspect(|member| self.members[*member].load().add())
    }

    fn answered(&self, member: usize) {
        self.members[member].load().sub();
    }

    /// Members in the pool, the oldest first.
    fn known(&self) -> Vec<usize> {
        self.pool.state().probes.iter().map(|probe| self.know(&probe.member).unwrap().index).collect()
    }
}

/// Nothing removed, and used 16 times.
fn lasting() -> Prequal {
    let settings = Prequal::default().with_removals_per_request(0.0).unwrap().with_pool_size(64).unwrap();
    settings.with_probes_per_request(0.125).unwrap()
}

/// NSDI'24 Prequal, 4: cold ones by latency, when all are hot by RIF.
#[test]
fn cold_before_hot_and_then_the_fastest() {
    let client = Client::new(8, lasting());
    // Threshold: the 0.75 quantile of 1, 2, 3, 4, 5, 6, 7, 8 is 6.
    for (member, latency) in [(0, 890), (1, 880), (2, 870), (3, 430), (4, 210), (5, 100), (6, 90), (7, 95)] {
        client.report(member, member as u32 + 1, latency * MS, 0);
    }
    assert_eq!(client.choose(0), Some(5), "at the threshold it is cold; faster ones are hot");
    assert_eq!(client.choose(0), Some(4), "one more, by the client that sent it: 5 is hot");
    client.answered(5);
    assert_eq!(client.choose(0), Some(5), "as it was told");

    let hot = Client::new(4, lasting());
    for rif in 0..3 {
        (0..40).for_each(|_| hot.report(3, rif, MS, 0));
    }
    for (member, rif) in [(0, 9), (1, 7), (2, 8), (3, 10)] {
        hot.report(member, rif, (10 - u64::from(rif)) * MS, 0);
    }
    assert_eq!(hot.choose(0), Some(1), "all are hot: the least RIF");
}

/// NSDI'24 Prequal, 4: the client adds one for each request that it sends; here while it is in flight.
#[test]
fn own_requests_count_while_they_are_in_flight() {
    let client = Client::new(4, lasting());
    (0..60).for_each(|_| client.report(3, 2, 90 * MS, 0));
    (0..3).for_each(|member| client.report(member, 2, (member as u64 + 1) * MS, 0));
    assert_eq!((client.choose(0), client.choose(0)), (Some(0), Some(1)), "the first one is hot after one request");
    client.answered(0);
    assert_eq!(client.choose(0), Some(0), "and as it was after the answer");
    client.report(0, 3, MS, 0);
    assert_eq!(client.choose(0), Some(2), "hot by what it tells");
    client.answered(0);
    assert_eq!(client.choose(0), Some(0), "of which one was ours");
}

/// Cold ones about as fast as the fastest go by RIF: a latency is an estimate. Requests that the client sends make it longer.
#[test]
fn alike_is_within_a_factor_of_two() {
    let client = Client::new(4, lasting());
    (0..60).for_each(|_| client.report(3, 9, 90 * MS, 0));
    for (member, (rif, latency)) in [(4, 10), (2, 20), (1, 21)].into_iter().enumerate() {
        client.report(member, rif, latency * MS, 0);
    }
    assert_eq!(client.choose(0), Some(1), "20 is 10, and its RIF is less; 21 is not");
    // 20 has become 20 x 4/3.
    assert_eq!(client.choose(0), Some(0));
    // 10 has become 12: that is like 21.
    assert_eq!(client.choose(0), Some(2));
}

/// A server that takes ten times as long is no choice, however cold it is.
#[test]
fn a_slow_one_is_asked_after_hot_ones() {
    let client = Client::new(3, lasting());
    (0..60).for_each(|_| client.report(2, 1, 100 * MS, 0));
    client.report(0, 7, 10 * MS, 0);
    client.report(1, 8, 11 * MS, 0);
    assert_eq!(client.choose(0), Some(2), "ten times: cold");
    client.answered(2);
    client.report(2, 0, 100 * MS + 1, 0);
    assert_eq!(client.choose(0), Some(0), "hot, and fast");
    client.report(2, 0, 0, 0);
    assert_eq!(client.choose(0), Some(2), "who knows nothing yet is tried");
}

/// NSDI'24 Prequal, 4: "Pool <2 -> random"; here the caller takes the lesser of two.
#[test]
fn a_choice_needs_two_answers() {
    let client = Client::new(8, lasting());
    assert_eq!(client.choose(0), None);
    client.report(0, 0, MS, 0);
    assert_eq!(client.choose(0), None);
    client.report(0, 0, MS, 0);
    assert_eq!(client.choose(0), None, "two of one server are one");
    client.report(1, 0, 2 * MS, 0);
    assert_eq!(client.choose(0), Some(0));
}

#[test]
fn who_may_not_be_chosen_is_not() {
    let client = Client::new(8, lasting());
    (0..8).for_each(|member| client.report(member, 0, (member as u64 + 1) * MS, 0));
    let usable = |from: usize| {
        let know = |member: &Arc<Member>| {
            let known = client.know(member)?;
            Some(Candidate { usable: known.index >= from, ..known })
        };
        client.pool.choose(0, 8, know)
    };
    assert_eq!((usable(2), usable(6), usable(7), usable(8)), (Some(2), Some(6), None, None));
    assert_eq!(client.known().len(), 8, "they may be usable again");
    let gone = |member: &Arc<Member>| client.know(member).filter(|known| known.index > 3);
    assert_eq!(client.pool.choose(0, 8, gone), Some(4));
    assert_eq!(client.known().len(), 4, "who left is forgotten");
}

/// What the client knows itself: an endpoint that was asked in vain is no faster than that.
#[test]
fn a_silence_corrects_an_answer() {
    let client = Client::new(4, lasting());
    (0..4).for_each(|member| client.report(member, 0, (member as u64 + 1) * MS, 0));
    let know = |member: &Arc<Member>| {
        let known = client.know(member)?;
        Some(Candidate { silence: if known.index == 0 { 5 * MS } else { 0 }, ..known })
    };
    assert_eq!(client.pool.choose(0, 4, know), Some(1));
}

/// NSDI'24 Prequal, 4: a probe expires after a second.
#[test]
fn answers_expire() {
    let client = Client::new(8, lasting());
    (0..4).for_each(|member| client.report(member, 0, MS, member as u64 * 500 * MS));
    assert_eq!(client.choose(2_000 * MS), Some(2));
    assert_eq!(client.known().len(), 2);
    assert_eq!(client.choose(2_001 * MS), None, "one of a second and a millisecond is none");
    assert_eq!(client.choose(0), None, "a clock that goes back finds nothing new");
}

#[test]
fn the_pool_has_a_size_and_drops_the_oldest() {
    let client = Client::new(40, Prequal::default().with_removals_per_request(0.0).unwrap());
    (0..40).for_each(|member| client.report(member, 0, MS, member as u64));
    assert_eq!(client.known(), (24..40).collect::<Vec<_>>());
}

/// NSDI'24 Prequal, 4: the oldest and the worst in turn; the worst is the hottest, or the slowest when none is hot.
#[test]
fn the_oldest_and_the_worst_are_removed_in_turn() {
    let settings = Prequal::default().with_removals_per_request(1.0).unwrap().with_probes_per_request(1.0).unwrap();
    let client = Client::new(8, settings);
    // Threshold 3: member 7 is hot, member 1 the slowest of the cold.
    for (member, (rif, latency)) in
        [(1, 9), (2, 99), (3, 4), (3, 3), (3, 8), (3, 7), (3, 6), (9, 1)].into_iter().enumerate()
    {
        client.report(member, rif, latency * MS, 0);
    }
    let left = Client::known;
    assert_eq!(client.choose(0), Some(3));
    assert_eq!(left(&client), [1, 2, 3, 4, 5, 6, 7], "the oldest");
    client.choose(0);
    assert!(!left(&client).contains(&7), "the hottest");
    client.choose(0);
    assert!(!left(&client).contains(&1), "the oldest");
    for _ in 0..20 {
        client.choose(0);
    }
    assert_eq!(left(&client).len(), 4, "with fewer, others would be asked for");
}

/// load-balancing.md 2.1: b_reuse = max{1, (1+d)/((1-m/n) r_probe - r_remove)}, with its check values for m = 16, n = 100.
#[test]
fn answers_are_used_as_often_as_the_paper_says() {
    for (probes, removals, expected) in
        [(3.0, 1.0, 1.316), (1.0, 0.25, 3.390), (0.5, 0.25, 11.76), (16.0, 0.0, 1.0), (0.1, 1.0, 16.0)]
    {
        let settings = Prequal::default().with_probes_per_request(probes).unwrap();
        let settings = settings.with_removals_per_request(removals).unwrap();
        assert!((settings.reuse(100) - expected).abs() < 0.005, "{probes} {removals}: {}", settings.reuse(100));
        assert_eq!(settings.reuse(16), settings.reuse(64), "as one for a quarter of them");
        let mut state = Pool::new(Arc::new(settings.clone())).state.into_inner().unwrap();
        let uses: u32 = (0..10_000).map(|_| state.rounded(settings.reuse(100))).sum();
        assert!((f64::from(uses) / 1e4 - settings.reuse(100)).abs() < 1e-3, "rounded, but right in sum: {uses}");
    }
    let settings = Prequal::default().with_probes_per_request(1.0).unwrap();
    let client = Client::new(100, settings.with_removals_per_request(0.0).unwrap());
    // 2 / (1 - 0.16) is 2.38: two uses, two and three.
    (0..3).for_each(|member| client.report(member, 0, [5, 6, 9][member] * MS, 0));
    let chosen: Vec<_> = (0..6).map(|_| client.choose(0)).collect();
    // Each use makes it hot. With the second one 0 is used up, then 1, and 2 is alone.
    assert_eq!(chosen, [Some(0), Some(1), Some(2), Some(0), Some(1), None]);
}

/// Probes for each request, rounded so that their sum is right: 1/8 whatever rides on responses.
#[test]
fn probes_fall_due_with_requests() {
    for rate in [0.3, 1.0, 2.5] {
        let client = Client::new(100, lasting().with_probes_per_request(rate).unwrap());
        // A pool that has enough asks for no more than is due.
        (0..10).for_each(|member| client.report(member, 0, MS, 0));
        client.pool.state().due = 0;
        let (mut sent, mut most) = (0, 0);
        for n in 0..1_000 {
            client.choose(0);
            let due = client.pool.take_due(0, 100);
            (0..due).for_each(|probe| client.report((n + probe) % 100, 0, MS, 0));
            sent += due;
            most = most.max(due);
        }
        assert!((sent as f64 - 1_000.0 * rate).abs() <= 2.0, "{rate}: {sent}");
        assert!(most as f64 <= rate + 2.0, "{rate}: {most} at once");
    }
}

/// Issue 4: "signals may ride on responses, so that an idle client probes and a busy one does not".
#[test]
fn reports_on_responses_stand_for_probes() {
    let client = Client::new(100, Prequal::default());
    let mut sent = 0;
    for n in 0..1_000 {
        client.choose(0);
        let due = client.pool.take_due(0, 100);
        (0..due).for_each(|probe| client.report((n + probe) % 100, 0, MS, 0));
        sent += due;
        client.report(n % 100, 0, MS, 0);
    }
    // An eighth of two for each request; and the first ones, before anything rode on a response.
    assert!((250..=258).contains(&sent), "{sent}");
    // Without them it asks again as before.
    let later: usize = (0..200).map(|_| (client.choose(0), client.pool.take_due(0, 100)).1).sum();
    assert!((370..=410).contains(&later), "{later}");
}

/// The same with few servers: what is removed from the pool is not asked for again and again.
#[test]
fn a_busy_client_of_few_servers_asks_no_more_than_of_many() {
    for n in [2, 3, 4, 5, 20] {
        let client = Client::new(n, Prequal::default());
        let mut sent = 0;
        for request in 0..1_000 {
            let chosen = client.choose(0);
            let due = client.pool.take_due(0, n);
            (0..due).for_each(|probe| client.report((request + probe) % n, 0, MS, 0));
            sent += due;
            chosen.into_iter().for_each(|chosen| client.answered(chosen));
            client.report(chosen.unwrap_or(request % n), 0, MS, 0);
        }
        // An eighth of two for each request, and the first ones.
        assert!((240..=270).contains(&sent), "{n} servers: {sent}");
    }
}

/// A pool that is full has enough, though it has fewer than four.
#[test]
fn a_small_pool_is_full_too() {
    for size in 2..=4 {
        let client = Client::new(20, lasting().with_pool_size(size).unwrap());
        (0..20).for_each(|member| client.report(member, 0, MS, 0));
        assert!(client.choose(0).is_some());
        assert_eq!((0..100).map(|_| client.pool.take_due(0, 20)).sum::<usize>(), 0, "{size}");
    }
}

/// A choice that panicked took nothing with it.
#[test]
fn a_panic_leaves_the_pool() {
    let client = Client::new(4, lasting());
    (0..4).for_each(|member| client.report(member, 0, MS, 0));
    let panics = || client.pool.choose(0, 4, |_| panic!("a bug"));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
    assert!(client.choose(0).is_some());
}

/// NSDI'24 Prequal, 4: it probes also when idle.
#[test]
fn an_idle_client_keeps_four_answers_for_a_minute() {
    let client = Client::new(100, Prequal::default());
    assert_eq!(client.pool.take_due(0, 100), 0, "nobody asked ever");
    assert_eq!(client.choose(0), None);
    let mut sent = 0;
    for tick in 0..2_000_u64 {
        let now = tick * 100 * MS;
        let due = client.pool.take_due(now, 100);
        (0..due).for_each(|probe| client.report((tick as usize + probe) % 100, 0, MS, now));
        sent += due;
        if now < IDLE {
            assert!(client.known().len() >= 4, "{tick}");
        }
    }
    assert!((200..=260).contains(&sent), "four a second, for a minute: {sent}");
    for n in 0..2 {
        let few = Client::new(n, Prequal::default());
        few.choose(0);
        assert_eq!(few.pool.take_due(0, n), 0, "there is nothing to choose");
    }
}

/// Probes that are lost are asked for again, and never more of them than there may be.
#[test]
fn lost_probes_are_no_answers() {
    let client = Client::new(100, Prequal::default());
    client.choose(0);
    assert_eq!(client.pool.take_due(0, 100), 4);
    assert_eq!(client.pool.take_due(500 * MS, 100), 0, "they may come");
    assert_eq!(client.pool.take_due(1_000 * MS, 100), 4, "they did not");
    client.pool.not_sent(4);
    assert_eq!(client.pool.take_due(1_001 * MS, 100), 4);
}

/// While somebody has the pool, others do without.
#[test]
fn nobody_waits_for_the_pool() {
    let client = Client::new(4, lasting());
    (0..4).for_each(|member| client.report(member, 0, MS, 0));
    let held = client.pool.state();
    assert_eq!(client.choose(0), None);
    drop(held);
    assert!(client.choose(0).is_some());
}

/// Another configuration is another pool; the same one goes on.
#[test]
fn pools_are_kept_by_place() {
    let (pools, settings) = (Pools::default(), Arc::new(Prequal::default()));
    let first = pools.of(0, None, &settings);
    assert!(Arc::ptr_eq(&first, &pools.of(0, None, &Arc::new(Prequal::default()))));
    assert!(!Arc::ptr_eq(&first, &pools.of(0, Some(0), &settings)));
    assert!(!Arc::ptr_eq(&first, &pools.of(0, None, &Arc::new(lasting()))));
}

proptest! {
    /// The window's quantile is that of a naive one.
    #[test]
    fn the_window_is_sorted(
        numbers in proptest::collection::vec(0_u32..20, 1..400), size in 1_usize..130, share in 0.0..=1.0_f64,
    ) {
        let mut window = Window::new(size);
        for (n, number) in numbers.iter().enumerate() {
            window.push(*number);
            let mut recent: Vec<u32> = numbers[(n + 1).saturating_sub(size)..=n].to_vec();
            recent.sort_unstable();
            let not_below = |number: &&u32| recent.iter().filter(|known| *known <= *number).count() as f64
                >= share * recent.len() as f64;
            prop_assert_eq!(window.quantile(share), recent.iter().find(not_below).copied());
        }
    }

    /// Whatever is reported and asked, at whatever time: the pool stays within its size, and one answer for each.
    #[test]
    fn the_pool_stays_in_bounds(
        steps in proptest::collection::vec((0_usize..30, any::<u32>(), any::<u64>(), 0_u64..5_000, 0_u8..3), 1..200),
        size in 2_usize..20,
    ) {
        let client = Client::new(30, Prequal::default().with_pool_size(size).unwrap());
        for (member, rif, latency, now, step) in steps {
            match step {
                0 => client.report(member, rif, latency, now * MS),
                1 => { client.choose(now * MS); }
                _ => prop_assert!(client.pool.take_due(now * MS, 30) <= Prequal::MOST),
            }
            let mut known = client.known();
            prop_assert!(known.len() <= size);
            known.sort_unstable();
            known.dedup();
            prop_assert_eq!(known.len(), client.known().len());
        }
    }
}
