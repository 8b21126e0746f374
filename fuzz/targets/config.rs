//! Configuration: YAML, documents, models, a change to a running mesh, routes.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mesh::hostile::World;

/// A good file of every kind. What is made of it stands in its place.
const FILES: [(&str, &str); 11] = [
    ("virtual-service.yaml", include_str!("../seeds/config/virtual-service.yaml")),
    ("destination-rule.yaml", include_str!("../seeds/config/destination-rule.yaml")),
    ("service.yaml", include_str!("../seeds/config/service.yaml")),
    ("service-entry.yaml", include_str!("../seeds/config/service-entry.yaml")),
    ("workload-entry.yaml", include_str!("../seeds/config/workload-entry.yaml")),
    ("peer-authentication.yaml", include_str!("../seeds/config/peer-authentication.yaml")),
    ("authorization-policy.yaml", include_str!("../seeds/config/authorization-policy.yaml")),
    ("mesh-policy.yaml", include_str!("../seeds/config/mesh-policy.yaml")),
    ("mesh-config.yaml", include_str!("../seeds/config/mesh-config.yaml")),
    ("http-route.yaml", include_str!("../seeds/config/http-route.yaml")),
    ("grpc-route.yaml", include_str!("../seeds/config/grpc-route.yaml")),
];

static WORLD: LazyLock<World> = LazyLock::new(|| World::new(FILES));

/// The file that the bytes are a version of: the one of their kind, else the first.
fn file(bytes: &[u8]) -> &'static str {
    let kind = |text: &'static str| text.lines().find(|line| line.starts_with("kind:") || line.starts_with("mesh:"));
    let contains = |line: &str| bytes.windows(line.len()).any(|window| window == line.as_bytes());
    FILES.iter().find(|(_, text)| kind(text).is_some_and(contains)).unwrap_or(&FILES[0]).0
}

fuzz_target!(|bytes: &[u8]| {
    WORLD.change(file(bytes), bytes);
});
