//! The checks of one cluster.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    future,
    sync::Arc,
};

use mesh_core::{EndpointAddress, clock};
use mesh_lb::{CheckResult, Checkup, Cluster, HealthCheck, Member};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::Instant,
};

use super::ask;
use crate::connect::Connector;

/// A member and its checks. A number tells it from another one that had its address before.
struct Session {
    number: u64,
    member: Arc<Member>,
    checkup: Checkup,
}

#[derive(Default)]
struct Sessions {
    by_address: HashMap<EndpointAddress, Session>,
    /// When whose next check is due; whoever has left since is passed over.
    due: BinaryHeap<Reverse<(Instant, u64, EndpointAddress)>>,
    started: u64,
}

/// Check the members of a cluster, as it is in each configuration, until it has left the last one.
pub(super) async fn check(connector: Connector, mut configured: watch::Receiver<Cluster>, at_a_time: Arc<Semaphore>) {
    let mut sessions = Sessions::default();
    let mut asked = JoinSet::new();
    let mut cluster = configured.borrow_and_update().clone();
    let mut known: Option<Arc<HealthCheck>> = None;
    loop {
        let Some(check) = cluster.policy().health_check.clone() else { return };
        if known.as_ref().is_some_and(|known| *known != check) {
            // Another question: what was answered to the old one stands until the first answer.
            sessions = Sessions::default();
            asked.shutdown().await;
        }
        sessions.follow(&cluster, &check);
        known = Some(Arc::clone(&check));
        // Until endpoints or configuration change:
        loop {
            for (address, number, member) in sessions.begin_due(clock::now()) {
                let (connector, cluster, check) = (connector.clone(), cluster.clone(), Arc::clone(&check));
                let at_a_time = Arc::clone(&at_a_time);
                asked.spawn(async move {
                    let Ok(_place) = at_a_time.acquire().await else { return (address, number, CheckResult::Skipped) };
                    let result = ask::ask(&connector, &cluster, &member, &check).await;
                    (address, number, result)
                });
            }
            let next = sessions.next();
            let due = async move {
                match next {
                    Some(next) => tokio::time::sleep_until(next).await,
                    None => future::pending().await,
                }
            };
            tokio::select! {
                Some(answered) = asked.join_next() => {
                    if let Ok((address, number, result)) = answered {
                        sessions.end(&cluster, &check, (address, number), result);
                    }
                }
                () = due => {}
                () = cluster.endpoints_changed() => break,
                changed = configured.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    cluster = configured.borrow_and_update().clone();
                    break;
                }
            }
        }
    }
}

impl Sessions {
    /// Members that are new are asked soon, those that have left never again.
    fn follow(&mut self, cluster: &Cluster, check: &HealthCheck) {
        let mut before = std::mem::take(&mut self.by_address);
        let now = clock::now();
        for member in &*cluster.members() {
            let address = member.endpoint().address.clone();
            let known = before.remove(&address).filter(|session| session.member.is(member));
            let session = match known {
                Some(session) => Session { member: Arc::clone(member), ..session },
                None => {
                    self.started += 1;
                    let checkup = Checkup::new(check, now, &mut rand::rng());
                    let session = Session { number: self.started, member: Arc::clone(member), checkup };
                    self.wait(&address, &session);
                    session
                }
            };
            self.by_address.insert(address, session);
        }
    }

    fn wait(&mut self, address: &EndpointAddress, session: &Session) {
        if let Some(due) = session.checkup.due() {
            self.due.push(Reverse((due, session.number, address.clone())));
        }
    }

    fn next(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((due, ..))| *due)
    }

    /// Those that are to be asked now.
    fn begin_due(&mut self, now: Instant) -> Vec<(EndpointAddress, u64, Arc<Member>)> {
        let mut begun = Vec::new();
        while self.next().is_some_and(|due| due <= now) {
            let Some(Reverse((_, number, address))) = self.due.pop() else { break };
            let session = self.by_address.get_mut(&address).filter(|session| session.number == number);
            if let Some(session) = session {
                session.checkup.begin();
                begun.push((address, number, Arc::clone(&session.member)));
            }
        }
        begun
    }

    fn end(&mut self, cluster: &Cluster, check: &HealthCheck, of: (EndpointAddress, u64), result: CheckResult) {
        let (address, number) = of;
        let session = self.by_address.remove(&address).filter(|session| session.number == number);
        let Some(mut session) = session else { return };
        if let Some(healthy) = session.checkup.end(check, result, clock::now(), &mut rand::rng()) {
            cluster.set_health(&session.member, healthy);
        }
        self.wait(&address, &session);
        self.by_address.insert(address, session);
    }
}
