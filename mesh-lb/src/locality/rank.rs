//! Ranking: which level an endpoint is on, and which share its place has.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use mesh_core::{Distribute, Endpoint, FailoverLabel, Labels, Locality, RegionFailover};

use super::{CLUSTER, LocalityPolicy, REGION, SUBZONE, ZONE, Zones};
use crate::Member;

/// Endpoints of one priority, by their places in the list that was ranked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Level {
    pub(crate) members: Vec<usize>,
    /// With `distribute`: shares and who has them. Empty: all are alike.
    pub(crate) shares: Vec<(u32, Vec<usize>)>,
    /// With zone awareness, on the first level: its zones, and who is in each.
    pub(crate) zones: Option<(Zones, Vec<Vec<usize>>)>,
}

impl LocalityPolicy {
    /// The levels, first the one that is used first. Those that no share is for are on none. `None`: all are alike.
    pub(crate) fn rank(&self, members: &[Arc<Member>]) -> Option<Vec<Level>> {
        let endpoints = || members.iter().map(|member| &**member.endpoint());
        if !self.ranks() {
            return None;
        }
        // Few places, many endpoints. What does not parse is no place that anything could match.
        let mut known: HashMap<&str, Locality> = HashMap::new();
        for endpoint in endpoints() {
            known.entry(&endpoint.locality).or_insert_with_key(|text| text.parse().unwrap_or_default());
        }
        let places: Vec<&Locality> = endpoints().map(|endpoint| &known[&*endpoint.locality]).collect();
        if !self.setting.distribute.is_empty() {
            let weights = endpoints().map(|endpoint| endpoint.weight.max(1));
            return distributed(&self.client.locality, &places, weights, &self.setting.distribute)
                .map(|level| vec![level]);
        }
        let labels: Vec<&Labels> = endpoints().map(|endpoint| &*endpoint.labels).collect();
        let priorities = self.priorities(&labels, &places);
        let mut levels = vec![Level::default(); *priorities.iter().max()? as usize + 1];
        for (index, priority) in priorities.into_iter().enumerate() {
            levels[priority as usize].members.push(index);
        }
        // envoy: "We only do locality routing for P=0."
        if let (Some(aware), Some(first)) = (&self.zones, levels.first_mut()) {
            let mut zones: Vec<(&Locality, Vec<usize>)> = Vec::new();
            for index in &first.members {
                match zones.iter_mut().find(|(known, _)| *known == places[*index]) {
                    Some((_, members)) => members.push(*index),
                    None => zones.push((places[*index], vec![*index])),
                }
            }
            let (names, members): (Vec<&Locality>, Vec<_>) = zones.into_iter().unzip();
            let zones = Zones::new(&aware.setting, &aware.callers, &self.client.locality, &names);
            first.zones = zones.map(|zones| (zones, members));
        }
        (levels.len() > 1 || levels[0].zones.is_some()).then_some(levels)
    }

    /// Or are all alike, whoever they are?
    pub(crate) fn ranks(&self) -> bool {
        self.failover || !self.setting.distribute.is_empty()
    }

    /// Where one endpoint comes, whatever others there are: the levels are the ranks in use, in their order. `None`: what is
    /// its depends on the others.
    pub(crate) fn rank_of(&self, endpoint: &Endpoint) -> Option<u32> {
        if !self.setting.distribute.is_empty() || self.zones.is_some() {
            return None;
        }
        let (setting, client) = (&self.setting, &*self.client);
        let place = endpoint.locality.parse().unwrap_or_default();
        let mut rank = 0;
        if !setting.failover_priority.is_empty() {
            let mine = Described { labels: &client.labels, place: &client.locality, cluster: &client.cluster_id };
            let theirs = Described { labels: &endpoint.labels, place: &place, cluster: &client.cluster_id };
            rank = by_labels(&mine, &theirs, &setting.failover_priority);
        }
        if setting.failover_priority.is_empty() || !setting.failover.is_empty() {
            rank = rank * 5 + by_place(&client.locality, &place, &setting.failover);
        }
        Some(rank)
    }

    /// istio ApplyLocalityLoadBalancer: by labels where failoverPriority names some, by place otherwise; by both where
    /// `failover` stands too.
    pub(super) fn priorities(&self, labels: &[&Labels], places: &[&Locality]) -> Vec<u32> {
        let setting = &self.setting;
        let client = &*self.client;
        let mut priorities = vec![0; places.len()];
        if !setting.failover_priority.is_empty() {
            let mine = Described { labels: &client.labels, place: &client.locality, cluster: &client.cluster_id };
            for ((priority, labels), place) in priorities.iter_mut().zip(labels).zip(places) {
                // The registry knows of one cluster: the client's.
                let theirs = Described { labels, place, cluster: &client.cluster_id };
                *priority = by_labels(&mine, &theirs, &setting.failover_priority);
            }
            compact(&mut priorities);
        }
        if self.zones.is_some() || setting.failover_priority.is_empty() || !setting.failover.is_empty() {
            for (priority, place) in priorities.iter_mut().zip(places) {
                let distance = by_place(&client.locality, place, &setting.failover);
                // istio ZoneAwareLoadBalancerSetting: "the proxy's own region forms the highest-priority tier".
                let distance = if self.zones.is_some() { distance.max(2) } else { distance };
                *priority = *priority * 5 + distance;
            }
            compact(&mut priorities);
        }
        priorities
    }
}

/// istio applyLocalityFailover: the same subzone 0, zone 1, region 2, elsewhere 3; where the client's region fails over
/// to another, elsewhere but there 4.
pub(super) fn by_place(client: &Locality, place: &Locality, failover: &[RegionFailover]) -> u32 {
    let distance = client.distance(place);
    let stand_in = failover.iter().find(|entry| *entry.from == *client.region());
    match stand_in {
        Some(entry) if distance == 3 && *entry.to != *place.region() => 4,
        _ => distance,
    }
}

/// A workload's labels, and those that Istio adds for where it is.
pub(super) struct Described<'a> {
    pub(super) labels: &'a Labels,
    pub(super) place: &'a Locality,
    pub(super) cluster: &'a str,
}

impl Described<'_> {
    /// istio labelutil.AugmentLabels.
    fn label(&self, key: &str) -> Option<&str> {
        let topology = match key {
            REGION => self.place.region(),
            ZONE => self.place.zone(),
            SUBZONE => self.place.subzone(),
            _ => "",
        };
        let known = Some(topology).filter(|text| !text.is_empty()).or_else(|| self.labels.get(key));
        known.or_else(|| (key == CLUSTER).then_some(self.cluster))
    }
}

/// How many of the labels, counted from the last, are beyond the first that differs.
///
/// istio LocalityLoadBalancerSetting.failoverPriority: "For a label to be considered for match, the previous labels
/// must match, i.e. nth label would be considered matched only if first n-1 labels match."
pub(super) fn by_labels(client: &Described<'_>, endpoint: &Described<'_>, keys: &[FailoverLabel]) -> u32 {
    let matches = |key: &&FailoverLabel| {
        key.value.as_deref().or_else(|| client.label(&key.key)).unwrap_or_default()
            == endpoint.label(&key.key).unwrap_or_default()
    };
    (keys.len() - keys.iter().take_while(matches).count()) as u32
}

/// Priorities from 0 without gaps.
pub(super) fn compact(priorities: &mut [u32]) {
    let used: BTreeSet<u32> = priorities.iter().copied().collect();
    let used: Vec<u32> = used.into_iter().collect();
    for priority in priorities {
        *priority = used.binary_search(priority).unwrap_or_default() as u32;
    }
}

/// Endpoints by place, with the places' shares. `None` where no entry is for the client.
fn distributed(
    client: &Locality,
    places: &[&Locality],
    weights: impl Iterator<Item = u32>,
    rules: &[Distribute],
) -> Option<Level> {
    let mut groups: Vec<(&Locality, u32, Vec<usize>)> = Vec::new();
    for ((index, place), weight) in places.iter().enumerate().zip(weights) {
        match groups.iter_mut().find(|(known, ..)| known == place) {
            Some((_, sum, members)) => {
                *sum = sum.saturating_add(weight);
                members.push(index);
            }
            None => groups.push((place, weight, vec![index])),
        }
    }
    let sums: Vec<_> = groups.iter().map(|(place, sum, _)| (*place, *sum)).collect();
    let shares = shares(client, &sums, rules)?;
    let shares = shares.into_iter().zip(groups).filter(|(share, _)| *share > 0);
    let shares: Vec<_> = shares.map(|(share, (_, _, members))| (share, members)).collect();
    let mut members: Vec<usize> = shares.iter().flat_map(|(_, members)| members).copied().collect();
    members.sort_unstable();
    Some(Level { members, shares, zones: None })
}

/// The shares of places that weigh so much; 0 for those that no pattern matches. `None` when no entry is for the client.
///
/// istio applyLocalityWeights: what several places have together is divided by their weights, rounded up.
pub(super) fn shares(client: &Locality, places: &[(&Locality, u32)], rules: &[Distribute]) -> Option<Vec<u32>> {
    let rule = rules.iter().find(|rule| rule.from.matches(client))?;
    let mut shares = vec![0; places.len()];
    for (pattern, percent) in &rule.to {
        let matched = |index: &usize| shares[*index] == 0 && pattern.matches(places[*index].0);
        let matched: Vec<usize> = (0..places.len()).filter(matched).collect();
        let total: u64 = matched.iter().map(|index| u64::from(places[*index].1)).sum();
        for index in matched {
            let weight = u64::from(places[index].1) * u64::from(*percent);
            shares[index] = u32::try_from(weight.div_ceil(total.max(1))).unwrap_or(u32::MAX);
        }
    }
    Some(shares)
}
