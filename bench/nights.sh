#!/usr/bin/env bash
# nights.sh [CUSTOMERS] [NIGHTS]: a shop night after night, one file a day: seconds, files and bytes at some of the nights.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=${BENCH_DIR:-$HOME/.cache/tessera-bench}
mkdir -p "$work"
cp "$here"/*.py "$work/"
cd "$work"
if [ ! -x venv/bin/python ]; then
  python3 -m venv venv
  venv/bin/pip install -q polars==2.1.0 pyarrow==26.0.1
fi
export TESSERA_BIN=${TESSERA_BIN:-$(realpath "${CARGO_TARGET_DIR:-$here/../target}/release/tessera")}
export TESSERA_DEMO_PROJECT="$here/../crates/tessera/src/commands/demo/tessera.toml"
export TESSERA_SECRET=${TESSERA_SECRET:-a benchmark keeps no secrets}
venv/bin/python nights.py "${1:-3000}" "${2:-60}"
