//! A retry storm: five tiers, three retries each, and an outage of the last one.
//!
//! Here the layers that ship run themselves: [`TimeoutLayer`] around [`RetryLayer`] around [`BalanceLayer`], at the front
//! and in every server, on a paused tokio runtime that jumps from event to event. The model, as it was written down before
//! anything was run in it:
//!
//! - Requests arrive at a front of [`SERVERS`] processes, by a Poisson process. It calls tier 1, tier 1 calls tier 2, and
//!   so on to tier 5, the leaf: five hops. Each tier has [`SERVERS`] servers, and each of them balances and counts its
//!   retries by itself.
//! - A server of tiers 1 to 4 takes 1 ms, then calls the next tier, and answers what it is answered. Whether it passes on
//!   `x-mesh-retries-exhausted` is up to the application: a [`Variant`] says.
//! - A leaf works on [`WORKERS`] requests at a time, first come first served, in exponential time of mean 10 ms. That is
//!   enough for 800 requests a second; 640 arrive at the front (a load of 0.8).
//! - Every hop retries up to three times, on `5xx`: on any 5xx, reset, or try that takes longer than 250 ms. Waits before
//!   retries are Istio's (25 ms, doubling, full jitter). The front gives up after 2 s.
//! - Who gives up on a try drops it: its connection ends, and so does the work for it further down, up to the leaf's
//!   queue. What a leaf has begun it ends.
//! - The outage is from 10 s to 20 s. Either the leaf [refuses](Outage::Refuses), which costs it nothing, or it
//!   [hangs](Outage::Hangs): it begins nothing, and then has its queue before it.
//!
//! Only sizes changed after the first runs, for the time that these take: two workers for four, 20 s after the outage for 40.
//!
//! *Leaf attempts over front requests* counts those of the time before and after the outage, recovery included. *Goodput is
//! back* when from then on at least 95 % of the requests of every second are answered with success.
//!
//! tokio's timers know whole milliseconds. So a simulated millisecond is a second on its clock ([`SLOWER`]): nothing here
//! depends on the unit.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use mesh_core::{BoxError, LocalReplies, LocalReplyLayer, RETRIES_EXHAUSTED, Routed, clock};
use mesh_lb::{Balance, BalanceLayer, Cluster, ClusterPolicy, Picked, RetryLimit};
use mesh_routing::{BackOff, ReplayBody, Retry, RetryLayer, RetryOn, RetryPolicy, RoutePolicy, Timeout, TimeoutLayer};
use rand::{Rng as _, RngExt as _, rngs::Xoshiro256PlusPlus};
use tokio::{
    sync::Semaphore,
    task::{LocalSet, spawn_local},
    time::{Instant, sleep, sleep_until},
};
use tower::{Layer as _, Service, ServiceExt as _};

use crate::{
    random::{Stream, exponential},
    run::{cluster, each, endpoint, server},
};

/// Tiers below the front.
pub const TIERS: usize = 5;
/// Processes of the front, and servers of each tier.
pub const SERVERS: usize = 4;
/// Requests that a leaf works on at a time.
pub const WORKERS: usize = 2;
/// What a leaf takes for one, in the mean.
pub const DEMAND: Duration = Duration::from_millis(10);
/// Load of the leaves without retries.
pub const LOAD: f64 = 0.8;
/// Retries at each hop.
pub const RETRIES: u32 = 3;
/// How long a try may take.
pub const TRY: Duration = Duration::from_millis(250);
/// How long a request may take.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// Seconds of tokio's clock for one that is simulated.
pub const SLOWER: u32 = 1_000;

/// What the leaf does during the outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// It answers 503 at once.
    Refuses,
    /// It begins nothing.
    Hangs,
}

/// What is between the front and a storm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// What the leaf does.
    pub outage: Outage,
    /// Is the default retry budget in force? Else there is no limit, as in Istio.
    pub budget: bool,
    /// Do applications pass on that retries were exhausted?
    pub header: bool,
}

/// Both outages; what ships first, then without its parts, then without any. The header says nothing to those who time
/// out: a leaf that hangs is all or nothing.
#[must_use]
pub fn variants() -> Vec<Variant> {
    let of = |outage| move |(budget, header)| Variant { outage, budget, header };
    let refuses = [(true, true), (true, false), (false, true), (false, false)].map(of(Outage::Refuses));
    refuses.into_iter().chain([(true, true), (false, false)].map(of(Outage::Hangs))).collect()
}

/// How long.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// The outage begins, in seconds.
    pub from: usize,
    /// It ends.
    pub to: usize,
    /// The last request arrives.
    pub end: usize,
}

/// All of it.
pub const FULL: Size = Size { from: 10, to: 20, end: 40 };
/// What a test can afford.
pub const REDUCED: Size = Size { from: 1, to: 3, end: 9 };

/// One second of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Second {
    /// Requests that arrived at the front.
    pub requests: u64,
    /// Of these, answered with success.
    pub good: u64,
    /// Tries that arrived at a leaf.
    pub tries: u64,
}

/// What became of a variant.
#[derive(Clone, Debug)]
pub struct Result {
    /// What was run.
    pub variant: Variant,
    /// For how long.
    pub size: Size,
    /// The seconds with each of the seeds.
    pub seeds: Vec<Vec<Second>>,
}

impl Result {
    /// Leaf attempts over front requests outside of the outage: the worst of the seeds.
    #[must_use]
    pub fn attempts(&self) -> f64 {
        let outside = |(second, _): &(usize, &Second)| !(self.size.from..self.size.to).contains(second);
        self.worst(|seconds| ratio(seconds.iter().enumerate().filter(outside).map(|(_, second)| second)))
    }

    /// The same of the worst second outside of it.
    #[must_use]
    pub fn worst_second(&self) -> f64 {
        let outside = |(second, _): &(usize, &Second)| !(self.size.from..self.size.to).contains(second);
        let each = |seconds: &[Second]| {
            let outside = seconds.iter().enumerate().filter(outside);
            outside.map(|(_, second)| ratio([second])).fold(0.0, f64::max)
        };
        self.worst(each)
    }

    /// The same during the outage.
    #[must_use]
    pub fn attempts_during(&self) -> f64 {
        self.worst(|seconds| ratio(&seconds[self.size.from..self.size.to]))
    }

    /// Seconds from the end of the outage until goodput is back for good: the worst of the seeds; `None`: not in this run.
    #[must_use]
    pub fn back(&self) -> Option<usize> {
        let bad = |second: &Second| (second.good as f64) < 0.95 * second.requests as f64;
        let back = |seconds: &Vec<Second>| {
            let after = &seconds[self.size.to..];
            let back = after.iter().rposition(bad).map_or(0, |last| last + 1);
            (back < after.len()).then_some(back)
        };
        self.seeds.iter().map(back).collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().max())
    }

    /// The share of requests answered with success by second, over all seeds.
    #[must_use]
    pub fn goodput(&self) -> Vec<f64> {
        let at = |second: usize| {
            let all = || self.seeds.iter().map(move |seconds| seconds[second]);
            all().map(|second| second.good).sum::<u64>() as f64
                / all().map(|second| second.requests).sum::<u64>() as f64
        };
        (0..self.size.end).map(at).collect()
    }

    fn worst(&self, of: impl Fn(&[Second]) -> f64) -> f64 {
        self.seeds.iter().map(|seconds| of(seconds)).fold(0.0, f64::max)
    }
}

fn ratio<'a>(seconds: impl IntoIterator<Item = &'a Second>) -> f64 {
    let (tries, requests) = seconds
        .into_iter()
        .fold((0, 0), |(tries, requests), second| (tries + second.tries, requests + second.requests));
    tries as f64 / requests as f64
}

impl Variant {
    /// Is it what ships?
    #[must_use]
    pub fn ships(&self) -> bool {
        self.budget && self.header
    }

    /// Run it with each of the seeds.
    #[must_use]
    pub fn measure(self, seeds: &[u64], size: Size) -> Result {
        Result { variant: self, size, seeds: each(seeds, |&seed| self.run(seed, size)) }
    }

    /// Second by second.
    fn run(self, seed: u64, size: Size) -> Vec<Second> {
        ROLLS.set(seed);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime that only keeps time needs nothing of the system");
        let world = {
            let _clock = runtime.enter();
            Rc::new(World {
                variant: self,
                size,
                start: clock::now(),
                // A second more: requests of the last one may be tried after it.
                seconds: RefCell::new(vec![Second::default(); size.end + PATIENCE.as_secs() as usize + 1]),
                demands: RefCell::new(Stream::Demands.of(seed)),
            })
        };
        LocalSet::new().block_on(&runtime, front(Rc::clone(&world), seed));
        let mut seconds = world.seconds.take();
        seconds.truncate(size.end);
        seconds
    }

    fn policies(self) -> (ClusterPolicy, Arc<RoutePolicy<Cluster>>) {
        let mut of_cluster = ClusterPolicy::default();
        if !self.budget {
            of_cluster.retries = RetryLimit::Max(u32::MAX);
        }
        let on = RetryOn::parse("5xx").expect("a condition of Istio's");
        let backoff = BackOff::new(slower(Duration::from_millis(25)));
        let retry = RetryPolicy::new(RETRIES, on).with_per_try_timeout(slower(TRY)).with_backoff(backoff);
        (of_cluster, Arc::new(RoutePolicy::default().with_retry(retry)))
    }
}

fn slower(time: Duration) -> Duration {
    time * SLOWER
}

thread_local! {
    /// The layer takes a function: its state is the thread's, and a run has a thread of its own.
    static ROLLS: Cell<u64> = const { Cell::new(0) };
}

/// Full jitter: uniform below a bound. Steele, Lea, Flood 2014.
fn roll() -> u64 {
    let state = ROLLS.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    ROLLS.set(state);
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

struct World {
    variant: Variant,
    size: Size,
    start: Instant,
    seconds: RefCell<Vec<Second>>,
    demands: RefCell<Xoshiro256PlusPlus>,
}

impl World {
    fn second(&self) -> usize {
        ((clock::now() - self.start) / SLOWER).as_secs() as usize
    }

    fn count(&self, second: usize, count: impl FnOnce(&mut Second)) {
        count(&mut self.seconds.borrow_mut()[second]);
    }

    fn at(&self, second: usize) -> Instant {
        self.start + slower(Duration::from_secs(second as u64))
    }
}

type Body = Empty<Bytes>;
type Tried = ReplayBody<Body>;
type Answer = Pin<Box<dyn Future<Output = std::result::Result<Response<Body>, Infallible>>>>;
/// How a server calls the next tier.
type Stack = LocalReplies<ToTier<Timeout<Retry<Balance<Network>>>>>;

/// Every request goes to one cluster, under one policy: a router with one route.
#[derive(Clone)]
struct ToTier<S> {
    cluster: Cluster,
    policy: Arc<RoutePolicy<Cluster>>,
    inner: S,
}

impl<S: Service<Routed<Request<Body>, Cluster, Arc<RoutePolicy<Cluster>>>>> Service<Request<Body>> for ToTier<S>
where
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<std::result::Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        self.inner.call(Routed::new(request, self.cluster.clone(), Arc::clone(&self.policy)))
    }
}

/// Reaches the servers of a tier, in no time.
#[derive(Clone)]
struct Network(Rc<[Rc<Server>]>);

impl Service<Picked<Request<Tried>>> for Network {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, picked: Picked<Request<Tried>>) -> Answer {
        let server = Rc::clone(&self.0[server(&picked.member)]);
        Box::pin(async move { Ok(server.answer().await) })
    }
}

enum Server {
    Between { world: Rc<World>, below: Stack },
    Leaf { world: Rc<World>, workers: Arc<Semaphore> },
}

impl Server {
    async fn answer(&self) -> Response<Body> {
        match self {
            Self::Between { world, below } => {
                sleep(slower(Duration::from_millis(1))).await;
                let mut response = ask(below).await;
                if !world.variant.header {
                    response.headers_mut().remove(RETRIES_EXHAUSTED);
                }
                response
            }
            Self::Leaf { world, workers } => {
                let second = world.second();
                world.count(second, |second| second.tries += 1);
                let demand = slower(exponential(&mut *world.demands.borrow_mut(), DEMAND));
                if (world.size.from..world.size.to).contains(&second) {
                    match world.variant.outage {
                        Outage::Refuses => return status(StatusCode::SERVICE_UNAVAILABLE),
                        Outage::Hangs => sleep_until(world.at(world.size.to)).await,
                    }
                }
                let worker = Arc::clone(workers).acquire_owned().await.expect("nobody closes it");
                let work = spawn_local(async move {
                    sleep(demand).await;
                    drop(worker);
                });
                work.await.expect("sleeping does not panic");
                status(StatusCode::OK)
            }
        }
    }
}

fn status(code: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::new());
    *response.status_mut() = code;
    response
}

async fn ask(stack: &Stack) -> Response<Body> {
    let request = Request::get("http://tier/").body(Body::new()).expect("a URI that is one");
    let Ok(response) = stack.clone().oneshot(request).await;
    response.map(|_| Body::new())
}

/// All tiers, and requests at the front until the end of the run.
async fn front(world: Rc<World>, seed: u64) {
    let workers = || Arc::new(Semaphore::new(WORKERS));
    let leaf = |_| Rc::new(Server::Leaf { world: Rc::clone(&world), workers: workers() });
    let mut tier: Rc<[Rc<Server>]> = (0..SERVERS).map(leaf).collect();
    for above in (1..TIERS).rev() {
        let between = |server| {
            let below = stack(&world, above * SERVERS + server, &tier, seed);
            Rc::new(Server::Between { world: Rc::clone(&world), below })
        };
        tier = (0..SERVERS).map(between).collect();
    }
    let fronts: Vec<Stack> = (0..SERVERS).map(|process| stack(&world, process, &tier, seed)).collect();
    let interval = DEMAND.div_f64(LOAD * (SERVERS * WORKERS) as f64);
    let (mut arrivals, mut places) = (Stream::Arrivals.of(seed), Stream::Clients.of(seed));
    let mut at = Duration::ZERO;
    let mut under_way = Vec::new();
    loop {
        at += exponential(&mut arrivals, interval);
        if at >= Duration::from_secs(world.size.end as u64) {
            break;
        }
        sleep_until(world.start + slower(at)).await;
        let front = fronts[places.random_range(0..SERVERS)].clone();
        let world = Rc::clone(&world);
        under_way.retain(|request: &tokio::task::JoinHandle<()>| !request.is_finished());
        under_way.push(spawn_local(async move {
            let second = world.second();
            let good = ask(&front).await.status().is_success();
            world.count(second.min(world.size.end - 1), |second| {
                second.requests += 1;
                second.good += u64::from(good);
            });
        }));
    }
    for request in under_way {
        request.await.expect("a request does not panic");
    }
}

fn stack(world: &World, index: usize, tier: &Rc<[Rc<Server>]>, seed: u64) -> Stack {
    let (of_cluster, of_route) = world.variant.policies();
    let timeout = index < SERVERS;
    let policy = match timeout {
        // The front's requests have an end.
        true => Arc::new(RoutePolicy::clone(&of_route).with_timeout(slower(PATIENCE))),
        false => of_route,
    };
    let endpoints: Vec<_> = (0..tier.len()).map(endpoint).collect();
    let all: Vec<usize> = (0..tier.len()).collect();
    let choices = Stream::Policy.of(seed ^ ((index as u64) << 32)).next_u64();
    let balance = BalanceLayer::seeded(choices).layer(Network(Rc::clone(tier)));
    let retry = RetryLayer::new().with_roll(roll).layer(balance);
    let inner = TimeoutLayer::new().layer(retry);
    LocalReplyLayer.layer(ToTier { cluster: cluster(&of_cluster, &endpoints, &all), policy, inner })
}
