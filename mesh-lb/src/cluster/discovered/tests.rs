use mesh_core::{
    ClusterName, Labels, MeshConfig, ServiceName, Workload, clock,
    config::{Document, Issues},
    registry::Registry,
};

use super::*;
use crate::{
    Cluster, ClusterSet, Clusters, DestinationRule, DestinationRules, LoadBalancing, SubsetClient, random::SplitMix64,
};

const HOST: &str = "db.test";

fn entry(resolution: &str, endpoints: &[(&str, &str)]) -> String {
    let endpoints: Vec<_> =
        endpoints.iter().map(|(a, v)| format!("{{address: {a}, labels: {{version: {v}}}}}")).collect();
    format!(
        "kind: ServiceEntry\napiVersion: networking.istio.io/v1\nmetadata: {{name: db}}\nspec:\n  hosts: [{HOST}]\n  \
         ports: [{{number: 80, name: http, protocol: HTTP}}]\n  resolution: {resolution}\n  endpoints: [{}]\n",
        endpoints.join(", ")
    )
}

fn build(clusters: &Clusters, entry: &str) -> ClusterSet {
    build_with(clusters, entry, None)
}

fn build_with(clusters: &Clusters, entry: &str, section: Option<LoadBalancing>) -> ClusterSet {
    let (mut issues, mesh) = (Issues::default(), MeshConfig::default());
    let rule = "---\nkind: DestinationRule\nmetadata: {name: db}\nspec:\n  host: db.test\n  subsets: [{name: v1, labels: \
                {version: v1}}, {name: v2, labels: {version: v2}}]\n";
    let documents = Document::parse_all("a.yaml", &format!("{entry}{rule}"), &mut issues);
    let registry = Registry::from_documents(&documents, &mesh.trust_domain, &mut issues);
    let rules = documents.iter().filter(|document| document.kind() == "DestinationRule");
    let rules: Vec<_> = rules.filter_map(|d| DestinationRule::from_document(d, &mut issues)).map(Arc::new).collect();
    assert!(!issues.has_errors(), "{issues}");
    let rules = DestinationRules::new(&rules);
    let rules = section.map_or_else(|| rules.clone(), |section| rules.clone().with_load_balancing(section));
    clusters.build(&registry, &rules, &Workload::new("default", "client"), &mesh)
}

fn cluster(set: &ClusterSet, subset: Option<&str>) -> Cluster {
    let service = ServiceName::of_host(HOST, "default");
    set.get(&ClusterName { service, port: 80, subset: subset.map(Into::into) }).unwrap().clone()
}

fn endpoint(ip: &str, version: &str) -> Arc<Endpoint> {
    Arc::new(Endpoint::new(EndpointAddress::new(ip, 80)).with_labels(Labels::from_iter([("version", version)])))
}

/// In any order: that of what is merged is the merging's to test.
fn hosts(cluster: &Cluster) -> Vec<String> {
    let mut hosts: Vec<_> = cluster.endpoints().iter().map(|e| e.address.host().into_owned()).collect();
    hosts.sort();
    hosts
}

fn pick(cluster: &Cluster) {
    let _ = cluster.pick(clock::now(), &mut SplitMix64(1), &[]);
}

/// However many clones, subsets and configurations the requests come through, one message asks for the service.
#[tokio::test]
async fn the_first_pick_asks_for_the_service_and_no_other_does() {
    let (clusters, mut wants) = Clusters::discovering(SubsetClient::Seed(1), 1, false);
    let set = build(&clusters, &entry("STATIC", &[("10.0.0.1", "v1")]));
    assert!(wants.0.try_recv().is_err(), "nobody wants it yet");
    for subset in [None, Some("v1"), Some("v2")] {
        (0..10).for_each(|_| pick(&cluster(&set, subset).clone()));
    }
    let set = build(&clusters, &entry("STATIC", &[("10.0.0.2", "v1")]));
    pick(&cluster(&set, None));
    let want = wants.next().await.unwrap();
    assert_eq!(want.service(), (HOST, 80));
    assert!(wants.0.try_recv().is_err());
    // Where nobody beside the registry has a say, nobody is asked.
    let (clusters, mut wants) = Clusters::discovering(SubsetClient::Seed(1), 0, true);
    pick(&cluster(&build(&clusters, &entry("STATIC", &[("10.0.0.1", "v1")])), None));
    assert!(wants.0.try_recv().is_err());
    pick(&cluster(&build(&clusters, &entry("DNS", &[("a.test", "v1")])), None));
    assert_eq!(wants.next().await.unwrap().service(), (HOST, 80));
}

#[tokio::test]
async fn what_sources_say_is_merged_and_survives_a_change_of_configuration() {
    let (clusters, mut wants) = Clusters::discovering(SubsetClient::Seed(1), 2, true);
    let set = build(&clusters, &entry("STATIC", &[("10.0.0.1", "v1"), ("10.0.0.2", "v2")]));
    pick(&cluster(&set, None));
    let want = wants.next().await.unwrap();
    clusters.tell(&want, Origin::Given(1), Update::Reset(vec![endpoint("10.0.0.8", "v2"), endpoint("10.0.0.9", "v2")]));
    clusters.tell(&want, Origin::Given(0), Update::Add(endpoint("10.0.0.9", "v1")));
    assert_eq!(hosts(&cluster(&set, None)), ["10.0.0.1", "10.0.0.2", "10.0.0.8", "10.0.0.9"]);
    assert_eq!(hosts(&cluster(&set, Some("v1"))), ["10.0.0.1", "10.0.0.9"]);
    // Documents change, the sources have said nothing new.
    let set = build(&clusters, &entry("STATIC", &[("10.0.0.2", "v2"), ("10.0.0.8", "v1")]));
    assert_eq!(hosts(&cluster(&set, None)), ["10.0.0.2", "10.0.0.8", "10.0.0.9"]);
    assert_eq!(hosts(&cluster(&set, Some("v2"))), ["10.0.0.2", "10.0.0.8"]);
    clusters.tell(&want, Origin::Given(1), Update::Gone);
    assert_eq!(hosts(&cluster(&set, None)), ["10.0.0.2", "10.0.0.8", "10.0.0.9"]);
    clusters.tell(&want, Origin::Given(0), Update::Remove(endpoint("10.0.0.9", "").address.clone()));
    assert_eq!(hosts(&cluster(&set, None)), ["10.0.0.2", "10.0.0.8"]);
    // Gone, and back: who follows the old one is told so, and is not heard any more.
    let other = entry("STATIC", &[("10.0.0.1", "v1")]).replace("number: 80", "number: 81");
    build(&clusters, &other);
    want.interest.asked_otherwise().await;
    assert!(clusters.wanted(&want).is_none());
    let set = build(&clusters, &entry("STATIC", &[("10.0.0.1", "v1")]));
    assert!(clusters.wanted(&want).is_none());
    clusters.tell(&want, Origin::Given(0), Update::Reset(vec![endpoint("10.0.0.9", "v1")]));
    assert_eq!(hosts(&cluster(&set, None)), ["10.0.0.1"]);
    pick(&cluster(&set, None));
    assert!(clusters.wanted(&wants.next().await.unwrap()).is_some());
}

#[tokio::test]
async fn a_name_stands_until_it_is_answered_and_others_are_asked_when_it_changes() {
    let (clusters, mut wants) = Clusters::discovering(SubsetClient::Seed(1), 0, true);
    let set = build(&clusters, &entry("DNS", &[("a.test", "v1"), ("10.0.0.5", "v2")]));
    assert_eq!(hosts(&cluster(&set, None)), ["10.0.0.5", "a.test"]);
    pick(&cluster(&set, None));
    let want = wants.next().await.unwrap();
    assert_eq!(clusters.wanted(&want).unwrap().named.len(), 2);
    clusters.tell(&want, Origin::Names, Update::Reset(vec![endpoint("10.1.0.1", "v1")]));
    assert_eq!(hosts(&cluster(&set, None)), ["10.0.0.5", "10.1.0.1"]);
    // The same name, described anew: the answer stays until there is another.
    let set = build(&clusters, &entry("DNS", &[("a.test", "v2"), ("10.0.0.5", "v2")]));
    want.interest.asked_otherwise().await;
    assert_eq!(hosts(&cluster(&set, None)), ["10.0.0.5", "10.1.0.1"]);
    let set = build(&clusters, &entry("DNS", &[("b.test", "v1"), ("10.0.0.5", "v2")]));
    want.interest.asked_otherwise().await;
    assert_eq!(hosts(&cluster(&set, None)), ["10.0.0.5", "b.test"], "a name that nobody has looked up");
    // An empty answer is an answer.
    clusters.tell(&want, Origin::Names, Update::Reset(Vec::new()));
    assert_eq!(hosts(&cluster(&set, None)), ["10.0.0.5"]);
}

/// Issue "Priorities and localities": deterministic subsetting, here of one service by its policy. A step of a source leads
/// where the whole would, and never to more endpoints than a client has.
#[tokio::test]
async fn a_client_that_has_some_of_the_endpoints_still_does_after_a_step() {
    let mut issues = Issues::default();
    let yaml = "apiVersion: mesh.rs/v1\nkind: MeshPolicy\nmetadata: {name: p}\nspec:\n  loadBalancing:\n  - {hosts: \
                [db.test], subsetting: {size: 2}}\n";
    let documents = Document::parse_all("p.yaml", yaml, &mut issues);
    let section = LoadBalancing::from_document(&documents[0], &mut issues).unwrap();
    let (clusters, mut wants) = Clusters::discovering(SubsetClient::Seed(1), 1, false);
    let documents = entry("STATIC", &[("10.0.0.1", "v1"), ("10.0.0.2", "v1"), ("10.0.0.3", "v1")]);
    let set = build_with(&clusters, &documents, Some(section.clone()));
    pick(&cluster(&set, None));
    let want = wants.next().await.unwrap();
    let adds = (4..20).map(|n| Update::Add(endpoint(&format!("10.0.0.{n}"), "v1")));
    let removes = (6..20).map(|n| Update::Remove(endpoint(&format!("10.0.0.{n}"), "").address.clone()));
    for update in adds.chain(removes) {
        clusters.tell(&want, Origin::Given(0), update.clone());
        let stepped = hosts(&cluster(&set, None));
        let built = build_with(&clusters, &documents, Some(section.clone()));
        assert_eq!((stepped.len(), &stepped), (2, &hosts(&cluster(&built, None))), "{update:?}");
    }
}

/// Step by step or as a whole, every cluster has the endpoints that are its own: a step for each, and again from nothing.
#[tokio::test]
async fn steps_lead_where_the_whole_does() {
    use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};

    let mut rng = StdRng::seed_from_u64(mesh_test::seed());
    for resolution in ["STATIC", "DNS"] {
        // The one takes steps, the other is built anew after each.
        let both = [0, 1].map(|_| Clusters::discovering(SubsetClient::Seed(1), 2, true));
        let mut documents = entry(resolution, &[("10.0.0.1", "v1"), ("10.0.0.2", "v2"), ("10.0.0.1", "v2")]);
        let mut followed = Vec::new();
        for (clusters, mut wants) in both {
            let set = build(&clusters, &documents);
            pick(&cluster(&set, None));
            followed.push((clusters, wants.next().await.unwrap(), set));
        }
        for _ in 0..500 {
            let one = |rng: &mut StdRng| {
                let version = if rng.random_bool(0.5) { "v1" } else { "v2" };
                endpoint(&format!("10.0.0.{}", rng.random_range(1..8)), version)
            };
            let update = match rng.next_u32() % 8 {
                0 => Update::Gone,
                1 => Update::Reset((0..rng.random_range(0..4)).map(|_| one(&mut rng)).collect()),
                2..5 => Update::Add(one(&mut rng)),
                _ => Update::Remove(one(&mut rng).address.clone()),
            };
            let origin = [Origin::Given(0), Origin::Given(1), Origin::Names][rng.random_range(0..3)];
            let again = rng.random_bool(0.05);
            if again {
                let ip = format!("10.0.0.{}", rng.random_range(1..8));
                documents = entry(resolution, &[(&ip, "v1"), ("10.0.0.2", "v2")]);
            }
            for (index, (clusters, want, set)) in followed.iter_mut().enumerate() {
                clusters.tell(want, origin, update.clone());
                if again || index == 1 {
                    *set = build(clusters, &documents);
                }
            }
            let known = |(_, _, set): &_| [None, Some("v1"), Some("v2")].map(|subset| hosts(&cluster(set, subset)));
            assert_eq!(known(&followed[0]), known(&followed[1]), "{origin:?} {update:?}");
        }
    }
}
