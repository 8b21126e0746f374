//! Bad configuration: a message that says where, and the last good version stays.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use axum::{Router, routing::get as route};
use common::{Running, World, fetch, get, until};

const GOOD: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: a
spec:
  hosts:
  - a
  http:
  - route:
    - destination:
        host: a
";

/// Name, text, what the message has to begin with (after the file), and what it has to say.
const BAD: [(&str, &str, &str, &str); 8] = [
    ("unreadable YAML", "kind: [\n", "2:1: error: ", "not YAML"),
    (
        "unknown field",
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n  hosts: [a]\n  htpp: []\n",
        "6:3: error: VirtualService default/a: ",
        "unknown field `htpp`",
    ),
    (
        "wrong type",
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n  hosts: a\n",
        "5:10: error: VirtualService default/a hosts: ",
        "wrong type: found string \"a\", expected a list",
    ),
    (
        "weight -1",
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n  hosts: [a]\n  http:\n  - route:\n    - destination: {host: a}\n      weight: -1\n",
        "9:15: error: VirtualService default/a http[0].route[0].weight: ",
        "-1",
    ),
    (
        "regex that does not compile",
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n  hosts: [a]\n  http:\n  - match: [{uri: {regex: 'a('}}]\n    route: [{destination: {host: a}}]\n",
        "7:27: error: VirtualService default/a http[0].match[0].uri.regex: ",
        "RE2",
    ),
    (
        "duration without unit",
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n  hosts: [a]\n  http:\n  - timeout: '5'\n    route: [{destination: {host: a}}]\n",
        "7:14: error: VirtualService default/a http[0].timeout: ",
        "a number with a unit is needed",
    ),
    (
        "duration that is a number",
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n  hosts: [a]\n  http:\n  - timeout: 5\n    route: [{destination: {host: a}}]\n",
        "7:14: error: VirtualService default/a http[0].timeout: ",
        "wrong type: found integer `5`, expected a duration, which is a number with a unit",
    ),
    (
        "host with a space",
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n  hosts: ['a b']\n  http:\n  - route: [{destination: {host: a}}]\n",
        "5:11: error: VirtualService default/a hosts[0]: ",
        "\"a b\"",
    ),
];

fn issues(mesh: &mesh::Mesh) -> Vec<String> {
    mesh.issues().iter().map(ToString::to_string).collect()
}

/// Wait until the mesh reports an issue that begins and speaks like this.
async fn expect_issue(mesh: &mesh::Mesh, place: &str, says: &str) {
    let reported = async {
        while !issues(mesh).iter().any(|issue| issue.starts_with(place) && issue.contains(says)) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let in_time = tokio::time::timeout(std::time::Duration::from_secs(20), reported).await;
    assert!(in_time.is_ok(), "want {place}…{says}\nhave {:#?}", issues(mesh));
}

async fn world() -> (World, Running) {
    let world = World::new();
    world.service("a", 80, "http");
    let server = world.run("a", "v1", Router::new().route("/", route(|| async { "a" }))).await;
    (world, server)
}

#[tokio::test]
async fn each_has_its_own_message_with_its_place_and_the_last_good_config_stays() {
    let (world, _server) = world().await;
    let file = world.write("rules.yaml", GOOD);
    let caller = world.mesh("caller", "v1").await;
    let client = caller.client();
    assert_eq!(fetch(&client, get("http://a/")).await.status(), 200);
    let mut messages = std::collections::BTreeSet::new();
    for (name, text, place, says) in BAD {
        let place = format!("{}:{place}", file.display());
        world.write("rules.yaml", text);
        expect_issue(&caller, &place, says).await;
        messages.insert(issues(&caller).join("\n"));
        assert_eq!(fetch(&client, get("http://a/")).await.status(), 200, "{name}: the last good config is in force");
        // And what was bad is forgotten when it is mended.
        world.write("rules.yaml", GOOD);
        until("mended", || async { issues(&caller).is_empty() }).await;
    }
    assert_eq!(messages.len(), BAD.len(), "each its own message");
}

const BALANCED: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: db}
spec:
  hosts: [db.example]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints:
  - address: 127.0.0.1
    ports: {http: PORT}
    weight: 2
    locality: r/z/s
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: db}
spec:
  host: db.example
  trafficPolicy:
    loadBalancer:
      simple: RANDOM
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: cache}
spec:
  host: cache.example
  trafficPolicy:
    loadBalancer:
      consistentHash:
        useSourceIp: true
        maglev: {tableSize: 65537}
";

/// The issue: "a negative weight, an unknown policy name, a locality that is not `region/zone/subzone`, a table size that
/// is not prime, an address that does not parse: a clear error with position, last good set kept".
#[tokio::test]
async fn what_is_wrong_with_endpoints_and_policies_says_where_and_the_last_good_set_stays() {
    let world = World::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let good = BALANCED.replace("PORT", &listener.local_addr().unwrap().port().to_string());
    let router = Router::new().route("/", route(|| async { "db" }));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let file = world.write("db.yaml", &good);
    let caller = world.mesh("caller", "v1").await;
    let client = caller.client();
    assert_eq!(fetch(&client, get("http://db.example/")).await.status(), 200);
    let (entry, rule, cache) = (
        "ServiceEntry default/db endpoints[0]",
        "DestinationRule default/db trafficPolicy",
        "DestinationRule default/cache",
    );
    for (from, to, place, says) in [
        ("weight: 2", "weight: -2", format!("12:13: error: {entry}.weight: "), "-2"),
        ("r/z/s", "r/z/s/x", format!("13:15: error: {entry}.locality: "), "invalid locality \"r/z/s/x\""),
        ("r/z/s", "r//s", format!("13:15: error: {entry}.locality: "), "region/zone/subzone"),
        ("address: 127.0.0.1", "address: 127.0.0", format!("10:14: error: {entry}.address: "), "\"127.0.0\""),
        ("RANDOM", "FASTEST", format!("22:15: error: {rule}.loadBalancer.simple: "), "unknown variant `FASTEST`"),
        (
            "65537",
            "65536",
            format!("33:29: error: {cache} trafficPolicy.loadBalancer.consistentHash.maglev.tableSize: "),
            "tableSize must be a prime number for maglev",
        ),
    ] {
        world.write("db.yaml", &good.replace(from, to));
        expect_issue(&caller, &format!("{}:{place}", file.display()), says).await;
        assert_eq!(fetch(&client, get("http://db.example/")).await.status(), 200, "{to}: the last good set");
        let endpoints = caller.endpoints("db.example", 80);
        assert_eq!((endpoints.len(), endpoints[0].weight, &*endpoints[0].locality), (1, 2, "r/z/s"), "{to}");
        world.write("db.yaml", &good);
        until("mended", || async { issues(&caller).is_empty() }).await;
    }
}

#[tokio::test]
async fn an_unknown_kind_and_an_undefined_subset_are_warnings_with_their_place() {
    let (world, _server) = world().await;
    let file = world.write(
        "rules.yaml",
        "apiVersion: networking.istio.io/v1\nkind: EnvoyFilter\nmetadata: {name: f}\nspec: {}\n---\n\
         apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n  hosts: [a]\n  http:\n  \
         - route: [{destination: {host: a, subset: nobody}}]\n",
    );
    let caller = world.mesh("caller", "v1").await;
    let found = issues(&caller);
    let expect = [
        (format!("{}:4:7: warning: EnvoyFilter default/f: ", file.display()), "not enforced in-process"),
        (format!("{}:9:7: warning: Deployment default/d: ", file.display()), "not a kind that the mesh reads"),
        (
            format!(
                "{}:17:45: warning: VirtualService default/a http[0].route[0].destination.subset: ",
                file.display()
            ),
            "nobody",
        ),
    ];
    for (place, says) in expect {
        assert!(
            found.iter().any(|issue| issue.starts_with(&place) && issue.contains("warning") && issue.contains(says)),
            "want {place}…{says}\nhave {found:#?}"
        );
    }
    // 503 with flag NC on use (istio.md 1.0), until a later file defines it.
    let client = caller.client();
    let response = fetch(&client, get("http://a/")).await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.extensions().get::<mesh::Exchange>().unwrap().flags.to_string(), "NC");
    world.write(
        "subset.yaml",
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec:\n  host: a\n  \
         subsets: [{name: nobody, labels: {version: v1}}]\n",
    );
    until("the subset is defined", || async { fetch(&client, get("http://a/")).await.status() == 200 }).await;
}

#[tokio::test]
async fn at_first_start_a_bad_object_ends_the_start() {
    for (name, text, place, _) in BAD {
        let world = World::new();
        let file = world.write("rules.yaml", text);
        let error = world.builder("a", "v1").start().await.expect_err(name);
        assert!(error.to_string().contains(&format!("{}:{place}", file.display())), "{name}: {error}");
    }
}

#[tokio::test]
async fn a_bad_security_object_leaves_the_whole_previous_set() {
    let (world, server) = world().await;
    let caller = world.mesh("caller", "v1").await;
    let client = caller.client();
    let policy = |name: &str, method: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}}}\nspec:\n  selector: {{matchLabels: \
             {{app: a}}}}\n  action: DENY\n  rules: [{{to: [{{operation: {{methods: [{method}]}}}}]}}]\n"
        )
    };
    world.write("deny.yaml", &policy("deny", "GET"));
    until("denied", || async { fetch(&client, get("http://a/")).await.status() == 403 }).await;
    // One member is bad: the good change beside it is not taken either, and nobody gets in.
    let bad = policy("deny", "POST") + "---\n" + &policy("other", "POST").replace("DENY", "NONSENSE");
    world.write("deny.yaml", &bad);
    until("noticed", || async { issues(&server.mesh).iter().any(|issue| issue.contains("default/other")) }).await;
    assert_eq!(fetch(&client, get("http://a/")).await.status(), 403);
    world.write("deny.yaml", &policy("deny", "POST"));
    until("allowed", || async { fetch(&client, get("http://a/")).await.status() == 200 }).await;
}
