//! The match: batches of tables, the same bytes to both sides, and what came of them.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{net::TcpSocket, task::JoinSet, time::Instant};

use crate::{
    accepted,
    bugs::Bug,
    clusters::{CLUSTERS, TABLES, is_shadow},
    compare::{Difference, Outcome, differences, printable},
    coverage::Coverage,
    derive,
    dice::Dice,
    envoy::{Envoy, MODES},
    generate,
    hosts::{VirtualHost, is_ours_alone, virtual_hosts},
    istio,
    model::{Mode, PORTS, Request, Table},
    ours::Ours,
    report::{Options, Report},
    shrink,
    translate::{self, ROLL_HEADER},
    upstream::{self, CASE, PLAN, Record, Seen},
    wire::Connection,
};

/// Requests for each table of a batch.
const REQUESTS: usize = 25;
/// Requests under way at a time.
const WORKERS: usize = 24;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long copies may take to arrive once the answer is there, and when the case is played again because they did not.
const MIRRORS: Duration = Duration::from_secs(1);
const MIRRORS_AGAIN: Duration = Duration::from_millis(200);
/// A difference counts when it is there again each of so many times: timeouts are real time.
const AGAIN: usize = 5;
/// Cases that are shrunk and printed, per kind of difference and in all.
const PRINTED_PER_KIND: usize = 1;
const PRINTED: usize = 12;
/// Differences after which no further batch is played: something is wrong that more of them would not tell.
const GIVEN_UP: u64 = 100;
/// How long a case is made smaller.
const SHRINKING: Duration = Duration::from_secs(10);

/// Play.
///
/// # Errors
/// When a side cannot be started or does not take a table.
pub async fn run(options: &Options) -> io::Result<Report> {
    let began = Instant::now();
    let mut referee = Referee::start(options).await?;
    let mut report = Report::default();
    let mut coverage = Coverage::new();
    let mut kinds: HashMap<String, usize> = HashMap::new();
    let mut seeds = Dice::new(options.seed);
    let enough = if options.bug.is_some() { 1 } else { GIVEN_UP };
    while report.cases < options.cases as u64 && report.different < enough {
        let mut dice = Dice::new(seeds.roll());
        let batch = Batch::generate(&mut dice);
        referee.push(&batch.tables, batch.mode).await?;
        for (index, envoy, ours) in referee.play_all(&batch).await {
            let request = &batch.requests[index];
            report.cases += 1;
            coverage.add(&batch.hosts[request.table], request, &envoy);
            let Some(found) = referee.settle(&batch, request, (envoy, ours), &mut report).await else { continue };
            report.different += 1;
            let fields: Vec<_> = found.iter().map(|difference| difference.field).collect();
            let printed = kinds.entry(fields.join(", ")).or_default();
            if *printed < PRINTED_PER_KIND && report.examples.len() < PRINTED {
                *printed += 1;
                let table = &batch.tables[request.table];
                let minimal = referee.minimal(table.clone(), request.clone(), batch.mode, found[0].field).await?;
                report.examples.push(format!("seed {}: {minimal}", options.seed));
                if options.bug.is_some() {
                    break;
                }
                referee.push(&batch.tables, batch.mode).await?;
            }
        }
        let late = referee.late();
        report.late += late.len() as u64;
        report.examples.extend(late.into_iter().map(|line| format!("seed {}: {line}", options.seed)).take(PRINTED));
    }
    report.specific_percent = coverage.specific_percent();
    report.features.clone_from(coverage.counts());
    report.took = began.elapsed();
    Ok(report)
}

/// Tables that are in force together, and the requests for them.
#[derive(Clone, Debug)]
struct Batch {
    mode: Mode,
    tables: Vec<Table>,
    /// Of each table, on all ports.
    hosts: Vec<Vec<VirtualHost>>,
    requests: Vec<Request>,
}

impl Batch {
    fn generate(dice: &mut Dice) -> Self {
        // Istio's default most of the time.
        let paths = if dice.chance(70) { 0 } else { 1 + dice.below(MODES.len() - 1) };
        let mode = Mode { paths, registry_only: dice.chance(45) };
        let tables: Vec<_> = (0..TABLES).map(|number| generate::table(dice, number)).collect();
        let hosts: Vec<_> = tables.iter().map(hosts).collect();
        let requests = (0..TABLES * REQUESTS).map(|index| index / REQUESTS);
        let requests = requests.map(|table| derive::request(dice, &tables[table], &hosts[table])).collect();
        Self { mode, tables, hosts, requests }
    }
}

fn hosts(table: &Table) -> Vec<VirtualHost> {
    PORTS.iter().flat_map(|port| virtual_hosts(table, *port)).collect()
}

/// Connections to both sides.
#[derive(Debug)]
struct Player {
    envoy: HashMap<u16, Connection>,
    ours: HashMap<u16, Connection>,
    /// How long copies may take.
    mirrors: Duration,
}

/// Both sides, running.
#[derive(Debug)]
struct Referee {
    envoy: Envoy,
    ours: Ours,
    bug: Option<Bug>,
    records: Arc<(Record, Record)>,
    next: Arc<AtomicU64>,
    _upstreams: (Upstreams, Upstreams),
}

impl Referee {
    async fn start(options: &Options) -> io::Result<Self> {
        let records = Arc::new((Record::default(), Record::default()));
        let upstreams = (Upstreams::start(&records.0).await?, Upstreams::start(&records.1).await?);
        let envoy = Envoy::start(&options.envoy, &options.directory, &upstreams.0.addresses).await?;
        let ours = Ours::start(upstreams.1.addresses.clone()).await?;
        Ok(Self { envoy, ours, bug: options.bug, records, next: Arc::default(), _upstreams: upstreams })
    }

    async fn push(&mut self, tables: &[Table], mode: Mode) -> io::Result<()> {
        let mut compiled = tables.to_vec();
        if let Some(bug) = self.bug {
            compiled.iter_mut().for_each(|table| bug.infect(table));
        }
        self.ours.push(&compiled, mode).map_err(io::Error::other)?;
        self.envoy.push(tables, mode).await
    }

    fn player(&self, mode: Mode) -> Player {
        let envoy = PORTS.map(|port| (port, Connection::new(self.envoy.address(mode, port))));
        let ours = PORTS.map(|port| (port, Connection::new(self.ours.address(port))));
        Player { envoy: HashMap::from(envoy), ours: HashMap::from(ours), mirrors: MIRRORS_AGAIN }
    }

    /// All requests of a batch, several at a time; results in their order.
    async fn play_all(&self, batch: &Batch) -> Vec<(usize, Outcome, Outcome)> {
        let batch = Arc::new(batch.clone());
        let (position, results) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            let mut player = Player { mirrors: MIRRORS, ..self.player(batch.mode) };
            let (batch, position, results) = (Arc::clone(&batch), Arc::clone(&position), Arc::clone(&results));
            let (records, next) = (Arc::clone(&self.records), Arc::clone(&self.next));
            workers.spawn(async move {
                loop {
                    let index = position.fetch_add(1, Ordering::Relaxed);
                    let Some(request) = batch.requests.get(index) else { return };
                    let (envoy, ours) = player.play(request, &batch.hosts[request.table], &records, &next).await;
                    results.lock().unwrap_or_else(PoisonError::into_inner).push((index, envoy, ours));
                }
            });
        }
        while workers.join_next().await.is_some() {}
        let mut results = std::mem::take(&mut *results.lock().unwrap_or_else(PoisonError::into_inner));
        results.sort_by_key(|(index, ..)| *index);
        results
    }

    /// The differences that stay when the case is played again, without the accepted ones.
    async fn settle(
        &self,
        batch: &Batch,
        request: &Request,
        first: (Outcome, Outcome),
        report: &mut Report,
    ) -> Option<Vec<Difference>> {
        let (mut envoy, mut ours) = first;
        for round in 0.. {
            let (found, excused) = judge(batch.mode, request, &envoy, &ours);
            if found.is_empty() {
                report.passing += u64::from(round > 0);
                for reason in excused {
                    *report.accepted.entry(reason).or_default() += 1;
                }
                return None;
            }
            if round + 1 == AGAIN {
                return Some(found);
            }
            let hosts = &batch.hosts[request.table];
            (envoy, ours) = self.player(batch.mode).play(request, hosts, &self.records, &self.next).await;
        }
        None
    }

    /// Copies that came when nobody waited for them any more, on one side only: a line about each such case.
    fn late(&self) -> Vec<String> {
        let (envoy, ours) = (self.records.0.late(), self.records.1.late());
        let count = |side: &BTreeMap<String, Vec<Seen>>, case: &String| side.get(case).map_or(0, Vec::len);
        let cases = envoy.iter().chain(&ours).filter(|(case, _)| count(&envoy, case) != count(&ours, case));
        // Of a target that Envoy refuses and we do not (see `accepted`) nobody waits for copies.
        let cases = cases.filter(|(_, copies)| copies[0].head.first.is_ascii());
        let line = |(case, copies): (&String, &Vec<Seen>)| {
            let (first, host) = (printable(&copies[0].head.first), copies[0].head.value("host").unwrap_or_default());
            format!("COPIES OF LATE (Envoy {}, mesh {}): {first}, host {host}", count(&envoy, case), count(&ours, case))
        };
        cases.map(line).collect()
    }

    /// Leave things out while the sides still differ in a field.
    async fn minimal(&mut self, mut table: Table, mut request: Request, mode: Mode, field: &str) -> io::Result<String> {
        let until = Instant::now() + if self.bug.is_some() { SHRINKING / 10 } else { SHRINKING };
        'smaller: loop {
            for (less_table, less_request) in shrink::smaller(&table, &request) {
                if Instant::now() > until {
                    break 'smaller;
                }
                if self.still_differs(&less_table, &less_request, mode, field).await {
                    (table, request) = (less_table, less_request);
                    continue 'smaller;
                }
            }
            break;
        }
        self.push(std::slice::from_ref(&table), mode).await?;
        let (envoy, ours) = self.player(mode).play(&request, &hosts(&table), &self.records, &self.next).await;
        let mut text = format!(
            "DIFFERENCE (pathNormalization {:?}, {}port {}, upstreams answer {:?})\n  rules: {}\n  request: {}\n",
            MODES[mode.paths].1,
            if mode.registry_only { "REGISTRY_ONLY, " } else { "" },
            request.port,
            upstream::plan_text(&request.plan),
            rules(&table),
            printable(&bytes(&request, "1")),
        );
        for Difference { field, envoy, ours } in judge(mode, &request, &envoy, &ours).0 {
            text.push_str(&format!("  {field}\n    Envoy: {envoy}\n    mesh:  {ours}\n"));
        }
        Ok(text)
    }

    async fn still_differs(&mut self, table: &Table, request: &Request, mode: Mode, field: &str) -> bool {
        // Less of a table may be another case, whose difference is on purpose.
        let host = String::from_utf8_lossy(&request.host);
        let other = is_ours_alone(table, &host, request.port);
        if other || self.push(std::slice::from_ref(table), mode).await.is_err() {
            return false;
        }
        for _ in 0..2 {
            let (envoy, ours) = self.player(mode).play(request, &hosts(table), &self.records, &self.next).await;
            if judge(mode, request, &envoy, &ours).0.iter().all(|difference| difference.field != field) {
                return false;
            }
        }
        true
    }
}

/// Differences that are not accepted, and the reasons of those that are.
fn judge(mode: Mode, request: &Request, envoy: &Outcome, ours: &Outcome) -> (Vec<Difference>, Vec<&'static str>) {
    let mut excused = Vec::new();
    let mut found = differences(envoy, ours);
    found.retain(|difference| match accepted::reason(MODES[mode.paths].1, request, envoy, ours, difference) {
        Some(reason) => {
            excused.push(reason);
            false
        }
        None => true,
    });
    excused.dedup();
    (found, excused)
}

impl Player {
    async fn play(
        &mut self,
        request: &Request,
        hosts: &[VirtualHost],
        records: &(Record, Record),
        next: &AtomicU64,
    ) -> (Outcome, Outcome) {
        let case = next.fetch_add(1, Ordering::Relaxed).to_string();
        let bytes = bytes(request, &case);
        let head_only = request.method == "HEAD";
        let side = async |connection: Option<&mut Connection>| {
            let connection = connection.expect("both ports have one");
            let answer = tokio::time::timeout(PATIENCE, connection.exchange(&bytes, head_only)).await;
            Outcome { answer: answer.ok().and_then(Result::ok), ..Outcome::default() }
        };
        let envoy = side(self.envoy.get_mut(&request.port));
        let ours = side(self.ours.get_mut(&request.port));
        let (mut envoy, mut ours) = tokio::join!(envoy, ours);
        let copies = copies(hosts, request.port, &envoy);
        tokio::join!(records.0.copies(&case, copies, self.mirrors), records.1.copies(&case, copies, self.mirrors));
        for (outcome, record) in [(&mut envoy, &records.0), (&mut ours, &records.1)] {
            let traffic = record.take(&case);
            (outcome.seen, outcome.copies) = (traffic.attempts, traffic.copies);
        }
        (envoy, ours)
    }
}

/// How many copies are on their way after an answer.
fn copies(hosts: &[VirtualHost], port: u16, envoy: &Outcome) -> usize {
    let name = envoy.says("x-o-route");
    let routes = hosts.iter().filter(|host| host.port == port).flat_map(|host| &host.routes);
    let Some(route) = routes.into_iter().find(|route| route.name == name) else { return 0 };
    let answered = envoy.says("x-o-flags").split(',').any(|flag| matches!(flag, "FI" | "NC"));
    if answered {
        0
    } else {
        translate::copies(&route.rule, port).filter(|to| CLUSTERS.get(to).is_some_and(|to| is_shadow(to))).count()
    }
}

/// What is in force, as a person writes it.
pub(crate) fn rules(table: &Table) -> String {
    let documents: Vec<_> = istio::documents(table).iter().map(ToString::to_string).collect();
    documents.join("\n         ")
}

/// The request as it goes to both sides.
fn bytes(request: &Request, case: &str) -> Vec<u8> {
    let mut bytes = format!("{} ", request.method).into_bytes();
    bytes.extend_from_slice(&request.target);
    bytes.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    bytes.extend_from_slice(&request.host);
    bytes.extend_from_slice(b"\r\n");
    for (name, value) in &request.headers {
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
    }
    let plan = upstream::plan_text(&request.plan);
    bytes.extend_from_slice(
        format!("{CASE}: {case}\r\n{PLAN}: {plan}\r\n{ROLL_HEADER}: {}\r\n", request.roll).as_bytes(),
    );
    if !request.body.is_empty() {
        bytes.extend_from_slice(format!("content-length: {}\r\n", request.body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&request.body);
    bytes
}

/// One side's upstreams, by the names of their clusters.
#[derive(Debug)]
struct Upstreams {
    addresses: HashMap<String, SocketAddr>,
    /// Bound, and nobody listens there: the port stays ours, and refuses connections.
    _dead: TcpSocket,
}

impl Upstreams {
    async fn start(record: &Record) -> io::Result<Self> {
        let dead = TcpSocket::new_v4()?;
        dead.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let mut listening = HashMap::from([("dead", dead.local_addr()?)]);
        let mut addresses = HashMap::new();
        for (cluster, label) in &*CLUSTERS {
            let address = match listening.get(label) {
                Some(address) => *address,
                None => upstream::listen(label, record.clone()).await?,
            };
            listening.insert(*label, address);
            addresses.insert(cluster.clone(), address);
        }
        Ok(Self { addresses, _dead: dead })
    }
}
