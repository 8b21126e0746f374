# The menu. `just` lists it; `.ci/run` is what a change has to pass.

default:
    @just --list

# Format everything.
fmt:
    cargo fmt --all

# What CI refuses.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --all-features -- -D warnings

# Unit, property, doc and end-to-end tests. Shared data: MESH_SHARED, else ../shared.
test:
    cargo test --workspace

# What a route lookup and a choice by hash cost.
bench:
    cargo bench -p mesh-routing --bench routes
    cargo bench -p mesh-lb --bench hash

# What each policy does, in virtual time: docs/simulation. One seed again: `just sim --seeds 3`.
sim *args="--out docs/simulation":
    cargo run --release -p mesh-sim -- {{ args }}

# The manual, as docs.rs shows it.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --all-features

# Istio's bookinfo on this machine.
bookinfo *args:
    cargo run --release --example bookinfo -- {{ args }}

# A real Envoy as the referee of routing: `just interop --cases 100000 --seed 7`.
interop *args:
    bash interop/envoy.sh
    cargo run -p mesh-interop -- {{ args }}

# Feed a target (config, regex, head) what nobody would write: `just fuzz regex 600`. Needs cargo-fuzz.
fuzz target="config" seconds="60":
    mkdir -p fuzz/corpus/{{ target }}
    RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir fuzz -s none {{ target }} fuzz/corpus/{{ target }} fuzz/seeds/{{ target }} \
        -- -max_total_time={{ seconds }} -timeout=20 -rss_limit_mb=4096 -max_len=8192

# Bans, licences, sources and duplicate versions (needs cargo-deny).
deny:
    cargo deny check bans licenses sources

# Everything CI does, in a fresh clone or here.
ci:
    bash .ci/run
