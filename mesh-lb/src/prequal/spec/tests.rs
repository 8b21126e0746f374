use std::time::Duration;

use super::*;

fn prequal(json: &str) -> (Prequal, Vec<String>) {
    let mut refused = Vec::new();
    let spec: PrequalSpec = serde_json::from_str(json).unwrap();
    let settings = spec.read("prequal", |path, message| refused.push(format!("{path}: {message}")));
    (settings, refused)
}

fn peak_ewma(json: &str) -> (PeakEwma, Vec<String>) {
    let mut refused = Vec::new();
    let spec: PeakEwmaSpec = serde_json::from_str(json).unwrap();
    let settings = spec.read("peakEwma", |path, message| refused.push(format!("{path}: {message}")));
    (settings, refused)
}

#[test]
fn what_is_not_given_is_the_default() {
    assert_eq!(prequal("{}"), (Prequal::default(), Vec::new()));
    assert_eq!(peak_ewma("{}"), (PeakEwma::default(), Vec::new()));
}

#[test]
fn every_field_is_read() {
    let (settings, refused) = prequal(
        r#"{"probesPerRequest": 3, "removalsPerRequest": 1, "poolSize": 32, "probeMaxAge": "2s", "hotQuantile": 0.5, "window": 64}"#,
    );
    assert_eq!(refused, Vec::<String>::new());
    assert_eq!((settings.probes_per_request(), settings.removals_per_request()), (3.0, 1.0));
    assert_eq!((settings.pool_size(), settings.window(), settings.hot_quantile()), (32, 64, 0.5));
    assert_eq!(settings.probe_max_age(), Duration::from_secs(2));
    let (settings, refused) = peak_ewma(r#"{"decay": "5s", "defaultRtt": "100ms"}"#);
    assert_eq!((settings.decay().as_secs(), settings.default_rtt().as_millis(), refused.len()), (5, 100, 0));
}

#[test]
fn what_makes_no_sense_is_told_with_its_field() {
    let wrong = |json: &str| prequal(json).1.join("\n");
    for (json, message) in [
        (r#"{"probesPerRequest": 0}"#, "prequal.probesPerRequest: must be a number above 0 and at most 16"),
        (r#"{"probesPerRequest": -1}"#, "prequal.probesPerRequest: must be a number above 0 and at most 16"),
        (r#"{"removalsPerRequest": 16.5}"#, "prequal.removalsPerRequest: must be a number from 0 to 16"),
        (r#"{"poolSize": 1}"#, "prequal.poolSize: must be from 2 to 256"),
        (r#"{"poolSize": 18446744073709551615}"#, "prequal.poolSize: must be from 2 to 256"),
        (r#"{"hotQuantile": 1.5}"#, "prequal.hotQuantile: must be a number from 0 to 1"),
        (r#"{"window": 0}"#, "prequal.window: must be from 1 to 4096"),
        (r#"{"probeMaxAge": "0s"}"#, "prequal.probeMaxAge: must be at least 1ms"),
    ] {
        assert_eq!(wrong(json), message);
    }
    assert!(wrong(r#"{"probeMaxAge": "5"}"#).starts_with("prequal.probeMaxAge: invalid duration"));
    let both = prequal(r#"{"poolSize": 0, "window": 0, "hotQuantile": 0.5}"#);
    assert_eq!((both.1.len(), both.0.hot_quantile()), (2, 0.5), "all that is wrong, and what is right stands");
    for number in [f64::NAN, f64::INFINITY, -0.1] {
        assert_eq!(Prequal::default().with_hot_quantile(number), Err(InvalidPrequal::HotQuantile));
        assert_eq!(Prequal::default().with_probes_per_request(number), Err(InvalidPrequal::Probes));
        assert_eq!(Prequal::default().with_removals_per_request(number), Err(InvalidPrequal::Removals));
    }
    assert_eq!(peak_ewma(r#"{"decay": "0s"}"#).1, ["peakEwma.decay: must be above 0"]);
    assert_eq!(peak_ewma(r#"{"defaultRtt": "0"}"#).1, ["peakEwma.defaultRtt: must be above 0"]);
    assert!(serde_json::from_str::<PrequalSpec>(r#"{"pool": 3}"#).is_err());
    assert!(serde_json::from_str::<PeakEwmaSpec>(r#"{"rtt": "3s"}"#).is_err());
}
