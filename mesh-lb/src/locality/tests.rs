use std::collections::BTreeMap;

use mesh_core::{
    Distribute, Endpoint, EndpointAddress, Labels, Locality, LocalityPattern, LocalitySpec, ZoneAwareSpec,
};
use serde_json::Value;

use super::{rank::shares, *};
use crate::Member;

/// An endpoint: where it is, and its labels.
type Line<'a> = (&'a str, &'a [(&'a str, &'a str)]);

fn place(text: &str) -> Locality {
    text.parse().unwrap()
}

fn setting(json: &str) -> Arc<LocalitySetting> {
    let spec: LocalitySpec = serde_json::from_str(json).unwrap();
    Arc::new(spec.read(&mut |path, message| panic!("{path}: {message}")))
}

fn client(locality: &str, labels: &[(&str, &str)]) -> Arc<Workload> {
    let labels = labels.iter().copied().collect();
    Arc::new(Workload::new("default", "client").with_locality(place(locality)).with_labels(labels))
}

fn policy(client: &Arc<Workload>, json: &str) -> LocalityPolicy {
    LocalityPolicy::effective(client, Some(&setting(json)), TrafficDistribution::Any, &setting("{}"), true).unwrap()
}

fn members(endpoints: &[Line<'_>]) -> Vec<Arc<Member>> {
    let member = |(index, (locality, labels)): (usize, &Line<'_>)| {
        let endpoint = Endpoint::new(EndpointAddress::new(&format!("10.0.0.{}", index + 1), 80))
            .with_locality(&place(locality))
            .with_labels(labels.iter().copied().collect());
        Member::new(Arc::new(endpoint), Arc::default())
    };
    endpoints.iter().enumerate().map(member).collect()
}

fn ranks(policy: &LocalityPolicy, endpoints: &[Line<'_>]) -> Vec<Vec<usize>> {
    let alike = || vec![rank::Level { members: (0..endpoints.len()).collect(), shares: Vec::new(), zones: None }];
    policy.rank(&members(endpoints)).unwrap_or_else(alike).into_iter().map(|level| level.members).collect()
}

/// istio applyLocalityFailover: subzone, zone, region, elsewhere, and without gaps.
/// istio.md 1.4: "same subzone 0, zone 1, region 2, other 3 (4 if failover.to !=) then compacted"
#[test]
fn the_nearest_come_first() {
    let here = client("r1/z1/s1", &[]);
    let all = [("r2", &[][..]), ("r1/z2", &[]), ("r1/z1/s1", &[]), ("r1/z1/s2", &[]), ("r3/z1/s1", &[]), ("", &[])];
    assert_eq!(ranks(&policy(&here, "{}"), &all), [vec![2], vec![3], vec![1], vec![0, 4, 5]]);
    let to_r3 = policy(&here, r#"{"failover": [{"from": "r1", "to": "r3"}]}"#);
    assert_eq!(ranks(&to_r3, &all), [vec![2], vec![3], vec![1], vec![4], vec![0, 5]]);
    assert_eq!(ranks(&to_r3, &all[..2]), [[1], [0]], "no gaps");
    let nowhere = client("", &[]);
    assert_eq!(ranks(&policy(&nowhere, "{}"), &all), [vec![5], vec![0, 1, 2, 3, 4]]);
    assert_eq!(ranks(&policy(&here, "{}"), &[]), [Vec::<usize>::new()]);
}

/// istio: "Failover needs outlier detection, otherwise Envoy will never drop down to a lower priority."
/// istio.md 1.4: "failover/priority only with outlierDetection (or forced)"
#[test]
fn without_outlier_detection_only_a_services_own_distribution_ranks() {
    let (here, mesh) = (client("r1/z1", &[]), setting("{}"));
    let all = [("r1/z1", &[][..]), ("r1/z2", &[]), ("r2/z1", &[]), ("r1/z1/s", &[])];
    let policy = |service| LocalityPolicy::effective(&here, None, service, &mesh, false).unwrap();
    assert_eq!(ranks(&policy(TrafficDistribution::Any), &all), [[0, 1, 2, 3]]);
    assert_eq!(ranks(&policy(TrafficDistribution::PreferSameZone), &all), [vec![0, 3], vec![1], vec![2]]);
    assert_eq!(
        ranks(&policy(TrafficDistribution::PreferSameNode), &all),
        [vec![0], vec![3], vec![1], vec![2]],
        "the subzone too"
    );
}

/// Labels that Istio adds to every workload (labelutil.AugmentLabels) can be named as any other.
/// istio.md 1.4: "failoverPriority` labels (prefix match; `key=value` fixed)"
#[test]
fn places_and_clusters_are_labels_too() {
    let here = client("r1/z1", &[("team", "a")]);
    let labels = r#"{"failoverPriority": ["topology.istio.io/cluster", "topology.kubernetes.io/region", "team"]}"#;
    let elsewhere = [("topology.istio.io/cluster", "other"), ("team", "a")];
    let all = [("r1", &[("team", "a")][..]), ("r2", &[("team", "a")]), ("r1", &elsewhere), ("r1", &[("team", "b")])];
    assert_eq!(ranks(&policy(&here, labels), &all), [[0], [3], [1], [2]]);
    let fixed = r#"{"failoverPriority": ["team=b"]}"#;
    assert_eq!(ranks(&policy(&here, fixed), &all), [vec![3], vec![0, 1, 2]]);
}

/// istio applyLocalityWeights: the first `from` that matches; "localities that are not specified get nothing"; what a
/// pattern matches shares its percents by weight.
/// istio.md 1.4: "unmatched localities get nothing, wildcards terminal only"
#[test]
fn shares_are_for_places_that_are_named() {
    let rules = setting(
        r#"{"distribute": [{"from": "r1/*", "to": {"r1/z1": 70, "r2": 30}}, {"from": "*", "to": {"r3/*": 100}}]}"#,
    );
    let (z1, z2, other, third) = (place("r1/z1/s"), place("r1/z2"), place("r2/z"), place("r3"));
    let places = [(&z1, 2), (&z2, 1), (&other, 3), (&third, 1)];
    assert_eq!(shares(&z2, &places, &rules.distribute), Some(vec![70, 0, 30, 0]));
    let all = [("r1/z1/s", &[][..]), ("r1/z2", &[]), ("r2/z", &[]), ("r2/y", &[])];
    let from = |locality| {
        LocalityPolicy::effective(&client(locality, &[]), Some(&rules), TrafficDistribution::Any, &setting("{}"), false)
            .unwrap()
            .rank(&members(&all))
            .unwrap()
    };
    let level = &from("r1/z9")[0];
    assert_eq!((&*level.members, &*level.shares), (&[0, 2, 3][..], &[(70, vec![0]), (15, vec![2]), (15, vec![3])][..]));
    assert_eq!(from("r9")[0].members, [] as [usize; 0], "nothing is where the shares are");
    let named = Distribute::clone(&rules.distribute[0]);
    assert_eq!(named.from, LocalityPattern::new("r1/*"));
    assert_eq!(shares(&third, &places, &[named]), None, "no entry for the client");
}

const TABLE: &str = "istio/tables/pilot_pkg_networking_core_loadbalancer_loadbalancer_test.json";

/// Of a table's cases, those that are not run, and why.
const LEFT_OUT: [(&str, &str); 1] = [
    // Its groups do not weigh what their endpoints weigh (two of weight 1 in a group of 1), and it ranks by the second
    // label where the first differs, which the proto rules out.
    ("not match the first n label", "contradicts the proto's note, and itself"),
];

/// istio.md 1.4: "DR > Service trafficDistribution > mesh (default enabled), **no merge**"
#[test]
fn istios_locality_tables() {
    let Some(path) = mesh_test::shared(TABLE) else { return };
    let table: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let (mut run, mut left_out) = (BTreeMap::new(), 0);
    for test in table["tables"].as_array().unwrap() {
        for case in test["cases"].as_array().unwrap() {
            let name = case["name"].as_str().unwrap();
            if LEFT_OUT.iter().any(|(other, _)| *other == name) {
                left_out += 1;
                continue;
            }
            let what = match (test["test"].as_str().unwrap(), case.get("distribute"), test["line"].as_u64()) {
                ("TestGetEffectiveLbSetting", ..) if case.get("expectedZoneAware").is_some() => zones_case(name, case),
                ("TestGetEffectiveLbSetting", ..) => effective_case(name, case),
                ("TestApplyLocalitySetting", Some(_), _) => distribute_case(name, case),
                ("TestApplyLocalitySetting", None, Some(182)) => labels_case(name, case, "[]", &BY_LABELS),
                ("TestApplyLocalitySetting", None, Some(1025)) => {
                    labels_case(name, case, r#"[{"from": "region1", "to": "region2"}]"#, &BY_BOTH)
                }
                (other, ..) => panic!("what is {other}?"),
            };
            *run.entry(what).or_insert(0) += 1;
        }
    }
    assert_eq!(run, BTreeMap::from([("distribute", 1), ("effective", 13), ("labels", 6), ("zones", 10)]));
    assert_eq!(left_out, LEFT_OUT.len());
}

fn distribute_case(name: &str, case: &Value) -> &'static str {
    let rules: Vec<Value> = case["distribute"].as_array().unwrap().iter().map(lower).collect();
    let rules = setting(&serde_json::json!({ "distribute": rules }).to_string());
    // The case's clusters: its localities in their order, the first one twice, with no weights of their own.
    let localities = [
        "region1/zone1/subzone1",
        "region1/zone1/subzone1",
        "region1/zone1/subzone2",
        "region1/zone1/subzone3",
        "region1/zone2",
        "region2",
        "region3",
    ]
    .map(place);
    let places: Vec<_> = localities.iter().map(|locality| (locality, 1)).collect();
    let expected: Vec<u32> = case["expected"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as u32).collect();
    assert_eq!(shares(&localities[0], &places, &rules.distribute), Some(expected), "{name}");
    "distribute"
}

const NET: &str = "topology.istio.io/network";
const CLU: &str = "topology.istio.io/cluster";

/// What the endpoints of the cases are, by place.
const BY_LABELS: [Line<'_>; 6] = [
    ("region1/zone1/subzone1", &[(NET, "n1"), (CLU, "c1")]),
    ("region1/zone1/subzone1", &[("key", "value"), (NET, "n2"), (CLU, "c2")]),
    ("region2/zone2/subzone2", &[("key", "value"), (NET, "n1"), (CLU, "c3")]),
    ("region2/zone2/subzone2", &[("key", "value"), (NET, "n2"), (CLU, "c4")]),
    ("region3/zone3/subzone3", &[("key", "value"), (NET, "n1"), (CLU, "c1")]),
    ("region3/zone3/subzone3", &[("key", "value"), (NET, "n2"), (CLU, "c2")]),
];
const BY_BOTH: [Line<'_>; 6] = [
    ("region1/zone1/subzone1", &[(NET, "n1"), (CLU, "c1")]),
    ("region1/zone2/subzone2", &[(NET, "n2"), (CLU, "c2")]),
    ("region2/zone2/subzone2", &[(NET, "n1"), (CLU, "c3")]),
    ("region3/zone3/subzone3", &[(NET, "n2"), (CLU, "c4")]),
    ("region2/zone2/subzone2", &[(NET, "n2"), (CLU, "c2")]),
    ("region3/zone3/subzone3", &[(NET, "n1"), (CLU, "c6")]),
];

fn labels_case(name: &str, case: &Value, failover: &str, endpoints: &[Line<'_>]) -> &'static str {
    let labels =
        case["proxyLabels"].as_object().unwrap().iter().map(|(key, value)| (key.as_str(), value.as_str().unwrap()));
    let here = client("region1/zone1/subzone1", &labels.collect::<Vec<_>>());
    let json = format!(r#"{{"failover": {failover}, "failoverPriority": {}}}"#, case["failoverPriority"]);
    let places: Vec<Locality> = endpoints.iter().map(|(locality, _)| place(locality)).collect();
    let labels: Vec<Labels> = endpoints.iter().map(|(_, labels)| labels.iter().copied().collect()).collect();
    let priorities =
        policy(&here, &json).priorities(&labels.iter().collect::<Vec<_>>(), &places.iter().collect::<Vec<_>>());
    // Istio splits a place's endpoints by priority: endpoints of a place and a priority are one group, by weight.
    let mut found: Vec<(String, u64, u64)> = Vec::new();
    let mut order: Vec<usize> = (0..endpoints.len()).collect();
    if failover == "[]" {
        order.sort_by_key(|index| (endpoints[*index].0, priorities[*index]));
    }
    for index in order {
        let (region, priority) = (places[index].region().to_owned(), u64::from(priorities[index]));
        match found.last_mut() {
            Some((known, same, weight)) if (&*known, *same) == (&region, priority) => *weight += 1,
            _ => found.push((region, priority, 1)),
        }
    }
    let expected = case["expected"].as_array().unwrap().iter().map(|group| {
        let weight = group["LoadBalancingWeight"]["Value"].as_u64().unwrap();
        (group["Locality"]["Region"].as_str().unwrap().to_owned(), group["Priority"].as_u64().unwrap(), weight)
    });
    assert_eq!(found, expected.collect::<Vec<_>>(), "{name}");
    "labels"
}

/// A rule's setting is a Go expression in the table; where one is in force, it is the one expected.
fn effective_case(name: &str, case: &Value) -> &'static str {
    let off = || setting(r#"{"enabled": false}"#);
    let expected = case.get("expectedLocality").map(locality_of);
    let rule = case.get("dr").map(|_| expected.clone().unwrap_or_else(off));
    let found = in_force(case, (rule.as_ref(), None));
    assert_eq!(found.as_ref().map(LocalityPolicy::setting), expected.as_deref(), "{name}");
    let forced = case.get("expectedForce").and_then(Value::as_bool).unwrap_or(false);
    assert_eq!(found.is_some_and(|policy| policy.failover), forced, "{name}");
    "effective"
}

/// The same where zones count, or would if they were not turned off.
fn zones_case(name: &str, case: &Value) -> &'static str {
    let expected = zones_of(&case["expectedZoneAware"]);
    let rule = case.get("dr").map(|_| Arc::clone(&expected));
    let found = in_force(case, (None, rule.as_ref()));
    assert_eq!(found.is_some(), case["expectedRoutingEnabled"].as_bool().unwrap(), "{name}");
    let forced = case.get("expectedForce").and_then(Value::as_bool).unwrap_or(false);
    assert_eq!(found.as_ref().is_some_and(|policy| policy.failover), forced, "{name}");
    if let Some(policy) = found {
        assert_eq!(policy.zones.unwrap().setting, expected, "{name}");
    }
    "zones"
}

fn locality_of(value: &Value) -> Arc<LocalitySetting> {
    let enabled = value.get("Enabled").map(|enabled| enabled["Value"].as_bool().unwrap());
    let failover = value.get("Failover").map_or(vec![], |_| vec![serde_json::json!({"from": "a", "to": "b"})]);
    let labels = value.get("FailoverPriority").and_then(Value::as_array).cloned().unwrap_or_default();
    let labels: Vec<&str> = labels.iter().map(|name| label(name.as_str().unwrap())).collect();
    let json = serde_json::json!({"enabled": enabled, "failover": failover, "failoverPriority": labels});
    setting(&json.to_string())
}

fn zones_of(value: &Value) -> Arc<ZoneAwareSetting> {
    let enabled = value.get("Enabled").map(|enabled| enabled["Value"].as_bool().unwrap());
    let failover: Vec<Value> = value["Failover"].as_array().into_iter().flatten().map(lower).collect();
    let json = serde_json::json!({"enabled": enabled, "failover": failover}).to_string();
    zone_setting(&json)
}

fn zone_setting(json: &str) -> Arc<ZoneAwareSetting> {
    let spec: ZoneAwareSpec = serde_json::from_str(json).unwrap();
    Arc::new(spec.read(&mut |path, message| panic!("{path}: {message}")))
}

fn in_force(
    case: &Value,
    rule: (Option<&Arc<LocalitySetting>>, Option<&Arc<ZoneAwareSetting>>),
) -> Option<LocalityPolicy> {
    let service = match case["svc"]["Attributes"]["K8sAttributes"]["TrafficDistribution"].as_str() {
        Some("model.TrafficDistributionPreferSameZone") => TrafficDistribution::PreferSameZone,
        Some("model.TrafficDistributionPreferSameNode") => TrafficDistribution::PreferSameNode,
        Some(other) => panic!("{other}"),
        None => TrafficDistribution::Any,
    };
    let mesh = case.get("meshLocality").map_or_else(|| setting(r#"{"enabled": false}"#), locality_of);
    let zones = case.get("meshZoneAware").map(zones_of);
    LocalityPolicy::in_force(&client("", &[]), rule, service, (&mesh, zones.as_ref()), &Arc::default(), false)
}

/// istio ZoneAwareLoadBalancerSetting: "the proxy's own region forms the highest-priority tier", then failover's, then the
/// others; labels first where failoverPriority names some. In the first tier zones have shares.
#[test]
fn regions_are_tiers_and_zones_share_the_first() {
    let here = client("r1/z1", &[("ring", "blue")]);
    let callers = Arc::new(Callers::new([(place("r1/z1"), 2), (place("r1/z2"), 2)]));
    let all: [Line<'_>; 6] = [
        ("r2/z1", &[]),
        ("r1/z2", &[]),
        ("r1/z1", &[("ring", "blue")]),
        ("r1/z1/s", &[]),
        ("r3/z1", &[("ring", "blue")]),
        ("", &[]),
    ];
    let levels = |json: &str| {
        LocalityPolicy::zone_aware(&here, &zone_setting(json), &callers).unwrap().rank(&members(&all)).unwrap()
    };
    let tiers = |json: &str| -> Vec<Vec<usize>> { levels(json).into_iter().map(|level| level.members).collect() };
    assert_eq!(tiers("{}"), [vec![1, 2, 3], vec![0, 4, 5]]);
    assert_eq!(tiers(r#"{"failover": [{"from": "r1", "to": "r3"}]}"#), [vec![1, 2, 3], vec![4], vec![0, 5]]);
    assert_eq!(tiers(r#"{"failoverPriority": ["ring"]}"#), [vec![2], vec![4], vec![1, 3], vec![0, 5]]);
    let first = &levels(r#"{"minClusterSize": 1}"#)[0];
    let (zones, members) = first.zones.as_ref().unwrap();
    assert_eq!(*members, [vec![1], vec![2], vec![3]]);
    // A third of the endpoints at home for half of the callers.
    assert_eq!(*zones.weights(&[1, 1, 1]), [0, 6666 * 3333, 3334 * 3333]);
    assert!(levels("{}")[1].zones.is_none());
    let off = zone_setting(r#"{"enabled": false}"#);
    assert!(LocalityPolicy::zone_aware(&here, &off, &callers).is_none());
}

/// The names of Istio's constants, as the table has them.
fn label(constant: &str) -> &'static str {
    match constant {
        "label.TopologyNetwork.Name" => NETWORK,
        "registrylabel.LabelTopologyRegion" => REGION,
        "registrylabel.LabelTopologyZone" => ZONE,
        "label.TopologySubzone.Name" => SUBZONE,
        "registrylabel.LabelHostname" => NODE,
        other => panic!("{other}"),
    }
}

/// `From` and `To`, as YAML has them.
fn lower(entry: &Value) -> Value {
    serde_json::json!({"from": entry["From"], "to": entry["To"]})
}
