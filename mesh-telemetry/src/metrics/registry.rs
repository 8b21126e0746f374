//! Counters and gauges of the mesh's own: config reloads, ejections, certificates. Few, and known by name, so a map
//! is enough; whoever counts keeps the handle.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
};

use super::labels::escape;

/// A number that only grows. Clones count together.
#[derive(Clone, Debug)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Count `by` more.
    pub fn increment(&self, by: u64) {
        self.0.fetch_add(by, Relaxed);
    }

    /// What it stands at.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down. Clones are one number.
#[derive(Clone, Debug)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    /// Set it.
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    /// Add to it; a negative number takes away.
    pub fn add(&self, by: i64) {
        self.0.fetch_add(by, Relaxed);
    }

    /// What it stands at.
    #[must_use]
    pub fn value(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
}

#[derive(Clone, Debug)]
pub(super) enum Series {
    Counter(Counter),
    Gauge(Gauge),
}

impl From<Series> for Counter {
    fn from(series: Series) -> Self {
        match series {
            Series::Counter(counter) => counter,
            Series::Gauge(_) => unreachable!("the registry answers with the kind it was asked for"),
        }
    }
}

impl From<Series> for Gauge {
    fn from(series: Series) -> Self {
        match series {
            Series::Gauge(gauge) => gauge,
            Series::Counter(_) => unreachable!("the registry answers with the kind it was asked for"),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Registry(Mutex<BTreeMap<&'static str, Family>>);

#[derive(Debug)]
struct Family {
    kind: Kind,
    help: &'static str,
    /// By rendered labels.
    series: BTreeMap<String, Series>,
}

impl Registry {
    pub(super) fn series(
        &self,
        kind: Kind,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
    ) -> Series {
        assert!(is_name(name, true), "{name:?} is not a metric name");
        let mut rendered = String::new();
        for (label, value) in labels {
            assert!(is_name(label, false), "{label:?} is not a label name");
            let separator = if rendered.is_empty() { "{" } else { "," };
            let _ = write!(rendered, "{separator}{label}=\"");
            let _ = escape(value, &mut rendered);
            rendered.push('"');
        }
        if !rendered.is_empty() {
            rendered.push('}');
        }
        let mut families = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let family = families.entry(name).or_insert_with(|| Family { kind, help, series: BTreeMap::new() });
        assert!(family.kind == kind, "{name} is a {:?}", family.kind);
        let series = family.series.entry(rendered).or_insert_with(|| match kind {
            Kind::Counter => Series::Counter(Counter(Arc::default())),
            Kind::Gauge => Series::Gauge(Gauge(Arc::default())),
        });
        series.clone()
    }

    pub(super) fn render(&self, out: &mut String) {
        for (name, family) in &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            };
            header(out, name, family.help, kind);
            for (labels, series) in &family.series {
                let _ = match series {
                    Series::Counter(counter) => writeln!(out, "{name}{labels} {}", counter.value()),
                    Series::Gauge(gauge) => writeln!(out, "{name}{labels} {}", gauge.value()),
                };
            }
        }
    }
}

/// `# HELP` and `# TYPE`. In help text only the backslash and the line feed are escaped.
pub(super) fn header(out: &mut String, name: &str, help: &str, kind: &str) {
    let help = help.replace('\\', "\\\\").replace('\n', "\\n");
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn is_name(name: &str, colons: bool) -> bool {
    let legal = |(at, b): (usize, u8)| {
        b.is_ascii_alphabetic() || b == b'_' || (colons && b == b':') || (at > 0 && b.is_ascii_digit())
    };
    !name.is_empty() && name.bytes().enumerate().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_and_labels_are_one_number() {
        let registry = Registry::default();
        let ask = |value| Counter::from(registry.series(Kind::Counter, "mesh_x_total", "X.", &[("a", value)]));
        ask("1").increment(2);
        ask("1").increment(3);
        ask("\"\\\n").increment(1);
        let mut out = String::new();
        registry.render(&mut out);
        assert_eq!(
            out,
            "# HELP mesh_x_total X.\n# TYPE mesh_x_total counter\n\
             mesh_x_total{a=\"1\"} 5\nmesh_x_total{a=\"\\\"\\\\\\n\"} 1\n"
        );
    }

    #[test]
    fn names_are_prometheus_names() {
        for (name, metric, label) in
            [("a_1", true, true), ("a:b", true, false), ("1a", false, false), ("", false, false), ("a-b", false, false)]
        {
            assert_eq!((is_name(name, true), is_name(name, false)), (metric, label), "{name}");
        }
    }
}
