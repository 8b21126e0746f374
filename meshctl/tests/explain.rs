//! `meshctl explain`, run as a person or a script runs it.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use mesh_test::Scratch;
use serde_json::{Value, json};

const CONFIG: &str = "\
{apiVersion: v1, kind: Service, metadata: {name: reviews}, spec: {ports: [{port: 9080, name: http}]}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec: {host: reviews, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - name: old
    match: [{uri: {prefix: /old}}]
    redirect: {uri: /new, redirectCode: 308}
  - name: mine
    match:
    - {headers: {end-user: {exact: jason}}}
    - {sourceLabels: {app: productpage}, queryParams: {v: {exact: '2'}}}
    rewrite: {uri: /v2/}
    timeout: 3s
    route: [{destination: {host: reviews, subset: v2}}]
  - route:
    - {destination: {host: reviews, subset: v1}, weight: 90}
    - {destination: {host: reviews, subset: v2}, weight: 10}
    fault: {delay: {fixedDelay: 2s, percentage: {value: 5}}}
";

/// Every key of an answer, in its order.
const KEYS: [&str; 25] = [
    "id",
    "outcome",
    "virtual_service",
    "kind",
    "delegate",
    "route",
    "rule_index",
    "match_index",
    "source",
    "cluster",
    "destinations",
    "request",
    "status",
    "location",
    "body",
    "response_headers",
    "response_operations",
    "response_flags",
    "timeout_ms",
    "retries",
    "fault",
    "mirrors",
    "rejected",
    "unreachable",
    "note",
];

fn meshctl(directory: &Path, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_meshctl"))
        .arg("explain")
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // A run that ends before it reads is checked by its status.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn scratch() -> Scratch {
    let scratch = Scratch::new();
    let _ = scratch.dir("mesh");
    scratch.write("mesh/reviews.yaml", CONFIG);
    scratch
}

const AS: [&str; 4] = ["--config", "mesh", "--as", "default/productpage"];

fn run(arguments: &[&str]) -> Output {
    meshctl(scratch().path(), &[&AS, arguments].concat(), b"")
}

#[test]
fn a_person_reads_the_decision_and_the_reasons() {
    let output = run(&["GET", "http://reviews:9080/x?v=2", "-H", "end-user: kate"]);
    assert_eq!(
        text(&output.stdout),
        "\
GET http://reviews:9080/x?v=2 as default/productpage
forward
  rule      default/reviews http[2]
  at        mesh/reviews.yaml:24
  to        outbound|9080|v1|reviews.default.svc.cluster.local (90 of 100)
  to        outbound|9080|v2|reviews.default.svc.cluster.local (10 of 100)
  request   GET /x?v=2 at reviews:9080
            end-user: kate
  delay     2000 ms, 5 % of requests
  retries   2 on connect-failure,refused-stream,retriable-status-codes,cancelled,unavailable
            back-off from 25 ms

not taken:
  default/reviews http[0].match[0] \"old\" (mesh/reviews.yaml:15): uri prefix \"/old\" does not match path \"/x\"
  default/reviews http[1].match[0] \"mine\" (mesh/reviews.yaml:19): header end-user: exact \"jason\", found \"kate\"
  default/reviews http[1].match[1] \"mine\" (mesh/reviews.yaml:20): sourceLabels app: \"productpage\", the client has none
"
    );
    assert_eq!(text(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_script_gets_one_object_with_every_key() {
    let output = run(&["--json", "--label", "app=productpage", "GET", "http://reviews:9080/x?v=2"]);
    let object = &lines(&output)[0];
    assert_eq!(object.as_object().unwrap().len(), KEYS.len());
    // serde_json's own map may be sorted: the order is that of the text.
    let places = KEYS.iter().map(|key| text(&output.stdout).find(&format!("\"{key}\":")).unwrap());
    assert!(places.collect::<Vec<_>>().is_sorted());
    for (key, value) in [
        ("outcome", json!("forward")),
        ("virtual_service", json!("default/reviews")),
        ("route", json!("mine")),
        ("rule_index", json!(1)),
        ("match_index", json!(1)),
        ("source", json!("mesh/reviews.yaml:20")),
        ("cluster", json!("outbound|9080|v2|reviews.default.svc.cluster.local")),
        (
            "request",
            json!({"method": "GET", "authority": "reviews:9080", "path": "/v2/x?v=2",
                   "headers": [["x-envoy-original-path", "/x?v=2"]]}),
        ),
        ("status", Value::Null),
        ("timeout_ms", json!(3000)),
        ("fault", Value::Null),
    ] {
        assert_eq!(object[key], value, "{key}");
    }
    assert_eq!(object["rejected"].as_array().unwrap().len(), 2);
}

#[test]
fn a_batch_answers_line_by_line() {
    let requests = "\
{\"id\": 1, \"method\": \"GET\", \"url\": \"http://reviews:9080/a//b%2F?x#f\", \"roll\": 0.0}

{\"id\": \"two\", \"method\": \"GET\", \"url\": \"/old\", \"headers\": [[\"Host\", \"reviews:9080\"], [\"n\", \"é\"], [\"n\", \"2\"]]}
{\"id\": [3], \"method\": \"GET\", \"url\": \"http://reviews:9080/\", \"roll\": 0.9, \"headers\": [[\"n\", \"é\"], [\"n\", \"2\"]]}
{\"method\": \"PUT\", \"url\": \"http://elsewhere.com/\"}
";
    let bad = "\
{\"id\": 5, \"method\": \"GET\"}
{\"id\": 6, \"method\": \"GET\", \"url\": \"/x\"}
{\"id\": 7, \"method\": \"GET\", \"url\": \"http://a/\", \"roll\": 1.5}
not json
";
    let after = "{\"id\": 8, \"method\": \"GET\", \"url\": \"http://reviews:9080/\", \"roll\": 1.0}";
    let scratch = scratch();
    let good = meshctl(scratch.path(), &[&AS[..], &["--batch"]].concat(), requests.as_bytes());
    assert_eq!((good.status.code(), text(&good.stderr)), (Some(0), ""));
    let answers = lines(&good);
    assert_eq!(answers.len(), 4);
    let cluster = |subset: &str| json!(format!("outbound|9080|{subset}|reviews.default.svc.cluster.local"));
    assert_eq!((&answers[0]["id"], &answers[0]["cluster"]), (&json!(1), &cluster("v1")));
    assert_eq!(answers[0]["request"]["path"], "/a//b%2F?x");
    // 0 x 100 < 5
    assert_eq!(answers[0]["fault"]["delay_ms"], 2000);
    assert_eq!(answers[1]["id"], "two");
    assert_eq!((&answers[1]["outcome"], &answers[1]["status"]), (&json!("redirect"), &json!(308)));
    assert_eq!(answers[1]["location"], "http://reviews:9080/new");
    // floor(0.9 x 100) is the first of the second's ten
    assert_eq!((&answers[2]["id"], &answers[2]["cluster"]), (&json!([3]), &cluster("v2")));
    assert_eq!(answers[2]["request"]["headers"], json!([["n", "é"], ["n", "2"]]));
    assert_eq!((&answers[3]["id"], &answers[3]["outcome"]), (&Value::Null, &json!("passthrough")));

    let mixed = [requests.as_bytes(), bad.as_bytes(), b"\xff\n", after.as_bytes()].concat();
    let mixed = meshctl(scratch.path(), &[&AS[..], &["--batch"]].concat(), &mixed);
    assert_eq!(mixed.status.code(), Some(1));
    let answers = lines(&mixed);
    let refused: Vec<_> = answers[4..9].iter().map(|answer| (&answer["id"], &answer["line"])).collect();
    let expected = [(json!(5), json!(6)), (json!(6), json!(7)), (json!(7), json!(8))];
    assert_eq!(refused[..3], expected.each_ref().map(|(id, line)| (id, line)));
    assert_eq!((refused[3], refused[4]), ((&Value::Null, &json!(9)), (&Value::Null, &json!(10))));
    assert!(answers[4]["error"].as_str().unwrap().contains("missing field `url`"));
    assert!(answers[5]["error"].as_str().unwrap().contains("names no host"));
    assert!(answers[6]["error"].as_str().unwrap().contains("roll 1.5"));
    // 1 counts as the largest number below it
    assert_eq!((&answers[9]["id"], &answers[9]["cluster"]), (&json!(8), &cluster("v2")));
}

/// "`id` is any JSON value and comes back as it is": its digits, the order of its keys, its spaces.
#[test]
fn an_id_comes_back_as_it_was_written() {
    let ids = ["12345678901234567890123", "1e400", r#"{"b": 1, "a":[ 1.0]}"#, r#""\u00e9""#, "null"];
    let ask = |rest: &str| ids.map(|id| format!("{{\"id\": {id}, \"method\": \"GET\", {rest}}}\n")).concat();
    let scratch = scratch();
    for (rest, code) in [(r#""url": "http://reviews:9080/""#, 0), (r#""url": 5"#, 1)] {
        let output = meshctl(scratch.path(), &[&AS[..], &["--batch"]].concat(), ask(rest).as_bytes());
        assert_eq!(output.status.code(), Some(code));
        for (line, id) in text(&output.stdout).lines().zip(ids) {
            assert!(line.starts_with(&format!("{{\"id\":{id},")), "{line}");
        }
    }
    // A list of a request's fields is no request.
    let list = b"[1, \"GET\", \"http://reviews:9080/\", null, null]\n";
    let output = meshctl(scratch.path(), &[&AS[..], &["--batch"]].concat(), list);
    assert_eq!(output.status.code(), Some(1));
    assert!(lines(&output)[0]["error"].as_str().unwrap().contains("is an object"));
}

/// A slip of the pen is not a request without headers.
#[test]
fn an_unknown_key_of_a_line_is_an_error() {
    let line = b"{\"id\": 1, \"method\": \"GET\", \"url\": \"http://reviews:9080/\", \"header\": [[\"a\", \"b\"]]}\n";
    let output = meshctl(scratch().path(), &[&AS[..], &["--batch"]].concat(), line);
    assert_eq!(output.status.code(), Some(1));
    let answer = &lines(&output)[0];
    assert_eq!((&answer["id"], &answer["line"]), (&json!(1), &json!(1)));
    assert!(answer["error"].as_str().unwrap().contains("unknown field `header`"), "{answer}");
}

#[test]
fn help_says_what_a_script_needs() {
    let output = run(&["--help"]);
    let help = text(&output.stdout);
    assert!(KEYS.iter().all(|key| help.contains(key)), "{help}");
    for words in
        ["Examples:", "\"headers\": [[", "--batch <", "Exit status:", "May be repeated", "subdirectories are not"]
    {
        assert!(help.contains(words), "{words}: {help}");
    }
}

#[test]
fn a_path_without_objects_is_a_warning() {
    let scratch = scratch();
    let _ = scratch.dir("parent/below");
    scratch.write("parent/below/a.yaml", CONFIG);
    scratch.write("empty.yaml", "# nothing\n");
    for (path, warning) in [
        ("parent", "parent/below:1:1: warning: subdirectory below holds configuration that is not read"),
        ("empty.yaml", "warning: empty.yaml: no object in it"),
    ] {
        let arguments = ["--config", path, "--as", "default/x", "GET", "http://reviews:9080/"];
        let output = meshctl(scratch.path(), &arguments, b"");
        let told = text(&output.stderr);
        assert_eq!((output.status.code(), told.lines().count()), (Some(0), 1), "{told}");
        assert!(told.starts_with(warning), "{told}");
        assert!(text(&output.stdout).contains("pass through: the host is not in the registry (ALLOW_ANY)"));
    }
    // A trailing slash and `./` are the same path; what can be read only once is read once.
    for path in ["mesh/", "./mesh", "/dev/stdin"].iter().take(if cfg!(target_os = "linux") { 3 } else { 2 }) {
        let arguments = ["--config", path, "--as", "default/x", "GET", "http://reviews:9080/"];
        let output = meshctl(scratch.path(), &arguments, CONFIG.as_bytes());
        assert_eq!(text(&output.stderr), "", "{path}");
        assert!(text(&output.stdout).contains("forward"), "{path}");
    }
    // What is no YAML is an error, and no warning beside it.
    scratch.write("bad.yaml", "kind: [");
    let output = meshctl(scratch.path(), &["--config", "bad.yaml", "--as", "default/x", "GET", "http://a/"], b"");
    assert!(!text(&output.stderr).contains("no object in it"), "{}", text(&output.stderr));
}

#[test]
fn a_host_on_another_port_is_not_told_to_be_missing() {
    let output = run(&["--json", "GET", "http://reviews/"]);
    let note = "the service reviews.default.svc.cluster.local has no port 80: it has 9080";
    assert_eq!(lines(&output)[0]["note"], note);
    let person = run(&["GET", "http://reviews/"]);
    assert!(text(&person.stdout).contains(&format!("pass through: {note} (ALLOW_ANY)")));
}

/// Where standard error is a full disk, the exit status still says what was found.
#[cfg(target_os = "linux")]
#[test]
fn nobody_need_read_the_errors() {
    let scratch = scratch();
    scratch.write("bad.yaml", "kind: [");
    let status = |arguments: &[&str]| {
        let full = || std::fs::File::create("/dev/full").unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_meshctl"));
        let command = command.current_dir(scratch.path()).args(arguments).stdout(std::process::Stdio::null());
        command.stderr(full()).status().unwrap().code()
    };
    let explain = ["explain", "--config", "bad.yaml", "--as", "default/x", "GET"];
    assert_eq!(status(&[&explain[..], &["http://a/"]].concat()), Some(1));
    assert_eq!(status(&[&explain[..], &["a"]].concat()), Some(2));
    assert_eq!(status(&["lint", "bad.yaml"]), Some(1));
}

#[test]
fn errors_in_the_configuration_are_told_and_the_rest_answers() {
    let scratch = scratch();
    let broken = "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: b}, spec: {hosts: [b], http: [{}]}}";
    scratch.write("mesh/broken.yaml", broken);
    let output = meshctl(scratch.path(), &[&AS[..], &["GET", "http://reviews:9080/old"]].concat(), b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("broken.yaml:1:"), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("redirect: 308 to http://reviews:9080/new"));
}

#[test]
fn usage_is_2() {
    for arguments in [
        &["GET"][..],
        &["GET", "reviews"],
        &["GET", "/x"],
        &["G T", "http://a/"],
        &["GET", "http://a/", "-H", "nothing"],
        &["GET", "http://a/", "--label", "x"],
        &["GET", "http://a/", "--roll", "2"],
        &["--batch", "GET", "http://a/"],
        &["--config", "missing", "--batch"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty() && text(&output.stderr).starts_with("error: "));
    }
    let nobody = meshctl(scratch().path(), &["--config", "mesh", "--as", "x", "GET", "http://a/"], b"");
    assert_eq!(nobody.status.code(), Some(2));
}

#[test]
fn a_list_of_paths_ends_where_the_request_begins() {
    let scratch = scratch();
    scratch.write("more.yaml", "{apiVersion: v1, kind: Service, metadata: {name: x}, spec: {ports: [{port: 1}]}}");
    let arguments = ["--as", "default/me", "--config", "mesh", "more.yaml", "GET", "http://reviews:9080/old"];
    let output = meshctl(scratch.path(), &arguments, b"");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("redirect: 308"));
}

#[test]
fn bookinfo_is_explained() {
    let Some(bookinfo) = mesh_test::shared("istio/bookinfo") else { return };
    let explain = |rules: &str, url: &str, user: Option<&str>| {
        let rules = format!("networking/virtual-service-{rules}.yaml");
        let header = user.map(|user| format!("end-user: {user}"));
        let mut arguments = vec!["--config", "platform", "networking/destination-rule-all.yaml", &rules];
        arguments.extend(["--as", "default/productpage-v1", "--json", "--label", "app=productpage", "GET", url]);
        arguments.extend(header.iter().flat_map(|header| ["-H", header]));
        let output = meshctl(&bookinfo, &arguments, b"");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        lines(&output).remove(0)
    };
    let cluster =
        |service: &str, subset: &str| json!(format!("outbound|9080|{subset}|{service}.default.svc.cluster.local"));
    let jason = explain("reviews-test-v2", "http://reviews:9080/reviews/0", Some("jason"));
    assert_eq!((&jason["cluster"], &jason["match_index"]), (&cluster("reviews", "v2"), &json!(0)));
    let kate = explain("reviews-test-v2", "http://reviews:9080/reviews/0", Some("kate"));
    assert_eq!(kate["cluster"], cluster("reviews", "v1"));
    assert_eq!(kate["rejected"][0]["because"], "header end-user: exact \"jason\", found \"kate\"");
    let abort = explain("ratings-test-abort", "http://ratings:9080/ratings/0", Some("jason"));
    assert_eq!(
        (&abort["outcome"], &abort["status"], &abort["fault"]["abort_status"]),
        (&json!("abort"), &json!(500), &json!(500))
    );
    let delay = explain("ratings-test-delay", "http://ratings:9080/ratings/0", Some("jason"));
    assert_eq!((&delay["outcome"], &delay["fault"]["delay_ms"]), (&json!("forward"), &json!(7000)));
    let split = explain("reviews-90-10", "http://reviews:9080/reviews/0", None);
    assert_eq!(split["cluster"], Value::Null);
    let weights = split["destinations"].as_array().unwrap().iter().map(|to| &to["weight"]);
    assert_eq!(weights.collect::<Vec<_>>(), [&json!(90), &json!(10)]);
}

/// Rules in a subdirectory are not in force: an answer without them is not to pass for one with them.
#[test]
fn configuration_that_is_not_read_is_told_on_standard_error() {
    let scratch = scratch();
    let _ = (scratch.dir("mesh/prod"), scratch.dir("empty"));
    scratch.write("mesh/prod/rules.yaml", CONFIG);
    let ask = |config: &[&str]| {
        let arguments = [&["--as", "default/a", "--config"], config, &["GET", "http://reviews:9080/"]].concat();
        let output = meshctl(scratch.path(), &arguments, b"");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        text(&output.stderr).to_owned()
    };
    let unread = "mesh/prod:1:1: warning: subdirectory prod holds configuration that is not read: name it too\n";
    assert!(ask(&["mesh"]).ends_with(unread), "{}", ask(&["mesh"]));
    assert_eq!(ask(&["mesh/reviews.yaml", "empty"]), "warning: empty: no object in it\n");
    assert_eq!(ask(&["mesh/reviews.yaml"]), "");
}
