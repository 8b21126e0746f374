//! `meshctl lint` as people and pipelines run it: the binary, its exit codes, each output.

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

use mesh_test::Scratch;

const GOOD: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews}
spec:
  hosts: [reviews.com]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.1}]
";

const BAD: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews.com]
  http:
  - route:
    - destination: {host: 'a,b%.com'}
";

const DOUBTFUL: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews.com
  trafficPolicy: {outlierDetection: {}}
";

fn lint(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_meshctl")).arg("lint").args(arguments).output().expect("meshctl runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn exits_with_0_without_errors() {
    let scratch = Scratch::new();
    let path = scratch.write("good.yaml", GOOD);
    let output = lint(&[path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(text(&output.stdout), "");
    assert_eq!(text(&output.stderr), "0 errors, 0 warnings, 0 infos in 1 object of 1 file\n");
}

#[test]
fn exits_with_1_for_errors_and_says_where() {
    let scratch = Scratch::new();
    let _ = scratch.dir("deeper");
    scratch.write("deeper/bad.yaml", BAD);
    scratch.write("good.yaml", GOOD);
    let output = lint(&[scratch.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let lines = text(&output.stdout);
    let expected = "bad.yaml:9:27: error: [IST0101] VirtualService default/reviews http[0].route[0].destination.host: \
                    Referenced host not found: \"a,b%.com\"\n";
    assert!(lines.contains(expected), "{lines}");
}

#[test]
fn warnings_are_errors_when_asked_for() {
    let scratch = Scratch::new();
    scratch.write("doubtful.yaml", &format!("{GOOD}---{DOUBTFUL}"));
    let path = scratch.path().to_str().unwrap();
    let output = lint(&[path]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).contains("warning: [MESH0004]"), "{output:?}");
    assert_eq!(lint(&["--fail-on", "warning", path]).status.code(), Some(1));
}

#[test]
fn exits_with_2_for_usage() {
    for arguments in [&[][..], &["--output", "xml", "."], &["--no-such-flag", "."], &["/there/is/no/such/path"]] {
        let output = lint(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{arguments:?}: {output:?}");
    }
}

/// One missing path does not hide what is wrong with the others.
#[test]
fn a_missing_path_is_told_beside_the_others() {
    let scratch = Scratch::new();
    let path = scratch.write("bad.yaml", BAD);
    let output = lint(&["/there/is/no/such/path", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(text(&output.stdout).contains("bad.yaml:9:"), "{output:?}");
    assert!(text(&output.stderr).contains("/there/is/no/such/path: "), "{output:?}");
}

#[test]
fn json_is_one_array() {
    let scratch = Scratch::new();
    let path = scratch.write("bad.yaml", BAD);
    let output = lint(&["--output", "json", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let missing = found.as_array().unwrap().iter().find(|finding| finding["code"] == "IST0101").unwrap();
    assert_eq!(
        *missing,
        serde_json::json!({
            "code": "IST0101",
            "title": "ReferencedResourceNotFound",
            "severity": "error",
            "message": "Referenced host not found: \"a,b%.com\"",
            "kind": "VirtualService",
            "namespace": "default",
            "name": "reviews",
            "path": "http[0].route[0].destination.host",
            "file": path.to_str().unwrap(),
            "line": 9,
            "column": 27,
        })
    );
    // Nothing found is an empty array, not nothing.
    let path = scratch.write("good.yaml", GOOD);
    let output = lint(&["--output", "json", path.to_str().unwrap()]);
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap(), serde_json::json!([]));
}

/// GitHub Actions, "Workflow commands": `,` and `:` are escaped in properties, `%` everywhere.
#[test]
fn github_gets_annotations() {
    let scratch = Scratch::new();
    let path = scratch.write("a,b.yaml", BAD);
    let output = lint(&["--output", "github", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let file = path.to_str().unwrap().replace(',', "%2C");
    let expected = format!(
        "::error file={file},line=9,col=27,title=IST0101 ReferencedResourceNotFound::VirtualService default/reviews \
         http[0].route[0].destination.host: Referenced host not found: \"a,b%25.com\"\n"
    );
    assert!(text(&output.stdout).contains(&expected), "{output:?}");
    let doubtful = lint(&["--output", "github", scratch.write("w.yaml", DOUBTFUL).to_str().unwrap()]);
    assert!(text(&doubtful.stdout).contains("::warning file="), "{doubtful:?}");
    assert!(text(&doubtful.stdout).contains("::notice file="), "{doubtful:?}");
}

#[test]
fn a_dash_is_the_standard_input() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_meshctl"))
        .args(["lint", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(BAD.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("<stdin>:9:27: error: [IST0101]"), "{output:?}");
}

/// Istio's sample application: it has services and pods. Of what its rules name, the pods of two subsets are missing,
/// which are in files of their own that are not there.
#[test]
fn bookinfo_lacks_the_pods_of_two_subsets() {
    let Some(platform) = mesh_test::shared("istio/bookinfo/platform") else { return };
    let Some(networking) = mesh_test::shared("istio/bookinfo/networking") else { return };
    let rules = networking.join("destination-rule-all.yaml");
    for name in [
        "virtual-service-all-v1.yaml",
        "virtual-service-reviews-test-v2.yaml",
        "virtual-service-ratings-test-delay.yaml",
    ] {
        let routes = networking.join(name);
        let paths = [platform.to_str().unwrap(), rules.to_str().unwrap(), routes.to_str().unwrap()];
        let output = lint(&paths);
        let lines = text(&output.stdout);
        let errors = lines.lines().filter(|line| line.contains("networking/") && line.contains(": error:"));
        let errors: Vec<&str> =
            errors.filter_map(|line| line.split(": error: ").nth(1)?.split(" defined").next()).collect();
        let subset = |index: u8, name: &str| {
            format!("[IST0173] DestinationRule default/ratings subsets[{index}].labels: The Subset {name}")
        };
        assert_eq!(errors, [subset(2, "v2-mysql"), subset(3, "v2-mysql-vm")], "{name}");
    }
}
