use mesh_core::{
    ClusterName, Labels, MeshConfig, ServiceName, Workload, clock,
    config::{Document, Issues},
    registry::Registry,
};

use super::*;
use crate::{Cluster, ClusterSet, Clusters, DestinationRule, DestinationRules, SubsetClient, random::SplitMix64};

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
    let (mut issues, mesh) = (Issues::default(), MeshConfig::default());
    let rule = "---\nkind: DestinationRule\nmetadata: {name: db}\nspec:\n  host: db.test\n  subsets: [{name: v1, labels: \
                {version: v1}}, {name: v2, labels: {version: v2}}]\n";
    let documents = Document::parse_all("a.yaml", &format!("{entry}{rule}"), &mut issues);
    let registry = Registry::from_documents(&documents, &mesh.trust_domain, &mut issues);
    let rules = documents.iter().filter(|document| document.kind() == "DestinationRule");
    let rules: Vec<_> = rules.filter_map(|d| DestinationRule::from_document(d, &mut issues)).map(Arc::new).collect();
    assert!(!issues.has_errors(), "{issues}");
    clusters.build(&registry, &DestinationRules::new(&rules), &Workload::new("default", "client"), &mesh)
}

fn cluster(set: &ClusterSet, subset: Option<&str>) -> Cluster {
    let service = ServiceName::of_host(HOST, "default");
    set.get(&ClusterName { service, port: 80, subset: subset.map(Into::into) }).unwrap().clone()
}

fn endpoint(ip: &str, version: &str) -> Arc<Endpoint> {
    Arc::new(Endpoint::new(EndpointAddress::new(ip, 80)).with_labels(Labels::from_iter([("version", version)])))
}

fn hosts(cluster: &Cluster) -> Vec<String> {
    cluster.endpoints().iter().map(|endpoint| endpoint.address.host().into_owned()).collect()
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
    // A step is a step for a cluster: least request does not ask who comes first.
    let sorted = |mut hosts: Vec<String>| {
        hosts.sort();
        hosts
    };
    assert_eq!(sorted(hosts(&cluster(&set, None))), ["10.0.0.1", "10.0.0.2", "10.0.0.8", "10.0.0.9"]);
    assert_eq!(sorted(hosts(&cluster(&set, Some("v1")))), ["10.0.0.1", "10.0.0.9"]);
    // Documents change, the sources have said nothing new.
    let set = build(&clusters, &entry("STATIC", &[("10.0.0.2", "v2"), ("10.0.0.8", "v1")]));
    assert_eq!(hosts(&cluster(&set, None)), ["10.0.0.9", "10.0.0.8", "10.0.0.2"]);
    assert_eq!(hosts(&cluster(&set, Some("v2"))), ["10.0.0.8", "10.0.0.2"]);
    clusters.tell(&want, Origin::Given(1), Update::Gone);
    assert_eq!(hosts(&cluster(&set, None)), ["10.0.0.9", "10.0.0.2", "10.0.0.8"]);
    clusters.tell(&want, Origin::Given(0), Update::Remove(endpoint("10.0.0.9", "").address.clone()));
    assert_eq!(sorted(hosts(&cluster(&set, None))), ["10.0.0.2", "10.0.0.8"]);
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
    assert_eq!(hosts(&cluster(&set, None)), ["a.test", "10.0.0.5"]);
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
