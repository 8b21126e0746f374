//! Header operations of rules and destinations.
//!
//! Within a level: remove, then set, then add. Which level runs first depends on the number of destinations, and
//! that is Envoy's doing: with one destination Istio writes both levels onto the route, where they are one level and
//! the destination's set and add come last; with two or more the destination's sit on Envoy's weighted cluster, which runs before the route.
//! measured on Envoy 1.40 (t2). The order is settled when the table is compiled: here is a flat list.

use std::{collections::BTreeMap, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

/// `headers` as YAML has it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct HeadersSpec {
    pub(crate) request: OperationsSpec,
    pub(crate) response: OperationsSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct OperationsSpec {
    pub(crate) set: BTreeMap<String, String>,
    pub(crate) add: BTreeMap<String, String>,
    pub(crate) remove: Vec<String>,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HeaderOp {
    Remove(HeaderName),
    Set(HeaderName, HeaderValue),
    Add(HeaderName, HeaderValue),
}

/// Operations of one level.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Operations {
    pub(crate) ops: Vec<HeaderOp>,
    /// `:authority` or `host` in set or add.
    pub(crate) authority: Option<HeaderValue>,
}

/// The request's and the response's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Headers {
    pub(crate) request: Operations,
    pub(crate) response: Operations,
}

impl HeadersSpec {
    /// Compile; errors are (field below `headers`, message).
    pub(crate) fn compile(&self) -> Result<Headers, Vec<(String, String)>> {
        let mut errors = Vec::new();
        let request = self.request.compile("request", true, &mut errors);
        let response = self.response.compile("response", false, &mut errors);
        if errors.is_empty() { Ok(Headers { request, response }) } else { Err(errors) }
    }
}

impl OperationsSpec {
    fn compile(&self, level: &str, request: bool, errors: &mut Vec<(String, String)>) -> Operations {
        let mut compiled = Operations::default();
        for (index, name) in self.remove.iter().enumerate() {
            match header_name(name) {
                Ok(name) => compiled.ops.push(HeaderOp::Remove(name)),
                Err(message) => errors.push((format!("{level}.remove[{index}]"), message)),
            }
        }
        for (verb, pairs) in [("set", &self.set), ("add", &self.add)] {
            for (key, value) in pairs {
                let at = format!("{level}.{verb}[\"{key}\"]");
                let value = match header_value(value) {
                    Ok(value) => value,
                    Err(message) => {
                        errors.push((at, message));
                        continue;
                    }
                };
                if request && (key.eq_ignore_ascii_case("host") || key == ":authority") {
                    if let Some(have) = compiled.authority.replace(value.clone()) {
                        errors.push((
                            at,
                            format!("authority header cannot be set multiple times: have {have:?}, attempting to set {value:?}"),
                        ));
                    }
                    continue;
                }
                match header_name(key) {
                    Ok(name) if verb == "set" => compiled.ops.push(HeaderOp::Set(name, value)),
                    Ok(name) => compiled.ops.push(HeaderOp::Add(name, value)),
                    Err(message) => errors.push((at, message)),
                }
            }
        }
        compiled
    }
}

pub(crate) fn header_name(name: &str) -> Result<HeaderName, String> {
    if name.starts_with(':') {
        return Err(format!("invalid header {name:?}: header cannot have \":\" prefix"));
    }
    if name.eq_ignore_ascii_case("host") {
        return Err(format!("invalid header {name:?}: cannot set Host header"));
    }
    name.parse().map_err(|_| format!("header name {name} is not a valid header name"))
}

/// Envoy reads `%NAME%` as a substitution and `%%` as a percent sign. Substitutions are refused: a literal
/// `%REQ(x)%` reaching the upstream would be a surprise.
pub(crate) fn header_value(value: &str) -> Result<HeaderValue, String> {
    let plain = value.replace("%%", "\u{0}");
    if plain.contains('%') {
        return Err(format!(
            "header value configuration {value} is invalid: Envoy's %...% substitutions are not supported in-process (write %% for a percent sign)"
        ));
    }
    HeaderValue::from_str(&plain.replace('\u{0}', "%"))
        .map_err(|_| format!("header value configuration {value} is invalid"))
}

/// The two levels in the order in which they run. `weighted` is a rule that names several destinations, those of weight
/// 0 included.
///
/// measured on Envoy 1.40 (t2, interop): a level removes, then sets, then adds. Of a single destination Istio appends
/// the operations to the rule's, and both are one level.
pub(crate) fn in_order(rule: &Operations, destination: &Operations, weighted: bool) -> Arc<[HeaderOp]> {
    let (first, second) = if weighted { (destination, rule) } else { (rule, destination) };
    let mut ops: Vec<_> = first.ops.iter().chain(&second.ops).cloned().collect();
    if !weighted {
        ops.sort_by_key(|op| match op {
            HeaderOp::Remove(_) => 0,
            HeaderOp::Set(..) => 1,
            HeaderOp::Add(..) => 2,
        });
    }
    ops.into()
}

/// Run them.
pub(crate) fn apply(ops: &[HeaderOp], headers: &mut HeaderMap) {
    for op in ops {
        match op {
            HeaderOp::Remove(name) => {
                headers.remove(name);
            }
            HeaderOp::Set(name, value) => {
                headers.insert(name, value.clone());
            }
            HeaderOp::Add(name, value) => {
                headers.append(name, value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operations(set: &str, remove: &str) -> Operations {
        let mut spec = OperationsSpec::default();
        if !set.is_empty() {
            spec.set.insert("x".into(), set.into());
        }
        if !remove.is_empty() {
            spec.remove.push(remove.into());
        }
        spec.compile("request", true, &mut Vec::new())
    }

    // istio.md 1.2: "one destination => destination ops run after rule ops (destination wins)"
    #[test]
    fn one_destination_wins_and_two_lose() {
        // measured on Envoy 1.40 (t2): one destination => destination after rule; two => rule after destination,
        // "a rule remove deletes a destination set".
        for (rule, destination, weighted, expected) in [
            (operations("r", ""), operations("d", ""), false, Some("d")),
            (operations("r", ""), operations("d", ""), true, Some("r")),
            (operations("", "x"), operations("d", ""), false, Some("d")),
            (operations("", "x"), operations("d", ""), true, None),
            // one level: removals come first, whoever asks for them
            (operations("r", ""), operations("", "x"), false, Some("r")),
            (operations("r", ""), operations("", "x"), true, Some("r")),
        ] {
            let mut headers = HeaderMap::new();
            apply(&in_order(&rule, &destination, weighted), &mut headers);
            assert_eq!(headers.get("x").map(|v| v.to_str().unwrap()), expected);
        }
    }

    // istio.md 1.2: "remove first, then set (overwrite), then add (append as separate lines)"
    #[test]
    fn removes_then_sets_then_adds() {
        let spec: HeadersSpec = serde_json_like();
        let compiled = spec.compile().unwrap();
        let mut headers = HeaderMap::from_iter([(HeaderName::from_static("a"), HeaderValue::from_static("0"))]);
        apply(&in_order(&compiled.request, &Operations::default(), false), &mut headers);
        assert_eq!(headers.get_all("a").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(compiled.request.authority.unwrap(), "other");
        assert!(!headers.contains_key("host"));
        assert_eq!(headers["p"], "5%");
    }

    fn serde_json_like() -> HeadersSpec {
        let mut spec = HeadersSpec::default();
        spec.request.remove.push("a".into());
        spec.request.set.insert("a".into(), "1".into());
        spec.request.set.insert("p".into(), "5%%".into());
        spec.request.add.insert("a".into(), "2".into());
        spec.request.add.insert(":authority".into(), "other".into());
        spec
    }

    #[test]
    fn refuses_what_istio_refuses() {
        let mut spec = HeadersSpec::default();
        spec.request.set.insert(":path".into(), "x".into());
        spec.response.remove.push("host".into());
        spec.response.set.insert("x".into(), "%REQ(a)%".into());
        let errors = spec.compile().unwrap_err();
        assert_eq!(errors[0].0, "request.set[\":path\"]");
        assert!(errors[0].1.contains("header cannot have \":\" prefix"));
        assert!(errors[1].1.contains("cannot set Host header"));
        assert!(errors[2].1.contains("header value configuration"));
    }
}
