//! What a subscriber sees of the mesh's spans.

use std::sync::{Arc, Mutex, OnceLock};

use tracing_subscriber::layer::SubscriberExt;

use crate::istio::Labels;

/// The spans of sampled requests: what an exporter would be given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spans(Arc<Mutex<Vec<Labels>>>);

impl Spans {
    /// The subscriber is the process': the services run on many threads. Tests tell their spans apart by trace.
    pub(crate) fn collected() -> Self {
        static SPANS: OnceLock<Spans> = OnceLock::new();
        let install = || {
            let spans = Self::default();
            tracing::subscriber::set_global_default(tracing_subscriber::registry().with(spans.clone())).unwrap();
            spans
        };
        SPANS.get_or_init(install).clone()
    }

    pub(crate) fn of(&self, trace_id: &str) -> Vec<Labels> {
        let spans = self.0.lock().unwrap();
        spans.iter().filter(|span| span.get("trace_id").is_some_and(|id| id == trace_id)).cloned().collect()
    }
}

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Spans {
    fn on_new_span(
        &self,
        attributes: &tracing::span::Attributes<'_>,
        _: &tracing::span::Id,
        _: tracing_subscriber::layer::Context<'_, S>,
    ) {
        if attributes.metadata().target() == "mesh::trace" {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            self.0.lock().unwrap().push(fields.0);
        }
    }
}

#[derive(Default)]
struct Fields(Labels);

impl tracing::field::Visit for Fields {
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().into(), format!("{value:?}"));
    }
}
