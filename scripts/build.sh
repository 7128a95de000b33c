#!/usr/bin/env bash
# scripts/build.sh NAME… builds images of the tree that you are in, and tags them: `image-worker build`, which says more
# with --help. It takes image-worker from the PATH, or else from this checkout, and builds that first where it is missing.
set -euo pipefail

if (($# == 0)); then
    echo "usage: scripts/build.sh NAME… [--with-parents] [--no-cache] (a NAME may end in a slash)" >&2
    exit 2
fi
if command -v image-worker >/dev/null; then
    exec image-worker build "$@"
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cargo build --quiet --release --locked --manifest-path "$here/Cargo.toml"
exec "${CARGO_TARGET_DIR:-$here/target}/release/image-worker" build "$@"
