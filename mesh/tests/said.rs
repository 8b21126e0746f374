//! What is wrong with configuration is an event too.
//!
//! Alone in its process: tracing remembers for each event whether anybody listens, and tests beside it, without a subscriber,
//! would have a say in that.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::sync::{Arc, Mutex};

use common::World;

/// Keeps what the events of `mesh::config` say.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Said {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "mesh::config"
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut said = self.0.lock().unwrap();
        event.record(&mut |_: &tracing::field::Field, value: &dyn std::fmt::Debug| said.push(format!("{value:?}")));
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// Limits that are not in force, and files that nobody reads, are said at the start: as issues and as events.
#[tokio::test]
async fn warnings_are_events_at_the_start_too() {
    let world = World::new();
    let limit = |name: &str, direction: &str| {
        format!(
            "apiVersion: mesh.rs/v1\nkind: MeshPolicy\nmetadata: {{name: {name}}}\nspec: {{localRateLimit: {{{direction}: \
             [{{tokenBucket: {{maxTokens: 1, fillInterval: 1s}}}}]}}}}\n---\n"
        )
    };
    let file = world.write("limits.yaml", &(limit("a", "inbound") + &limit("b", "outbound") + &limit("c", "inbound")));
    let _ = world.scratch.dir("config/prod");
    let unread = world.write("prod/rules.yaml", "kind: [\n");
    let said = Said::default();
    let collecting = tracing::subscriber::set_default(said.clone());
    let mesh = world.mesh("a", "v1").await;
    drop(collecting);
    let expected = [
        format!(
            "{}:1:1: warning: subdirectory prod holds configuration that is not read: name it too",
            unread.parent().unwrap().display()
        ),
        format!(
            "{}:14:34: warning: MeshPolicy default/c localRateLimit.inbound: not in force: MeshPolicy default/a comes \
             first, and its scope is the same",
            file.display()
        ),
    ];
    let issues: Vec<_> = mesh.issues().iter().map(ToString::to_string).collect();
    assert_eq!(issues, expected);
    let said = said.0.lock().unwrap();
    for issue in expected {
        assert!(said.contains(&issue), "{issue}\n{said:#?}");
    }
}
