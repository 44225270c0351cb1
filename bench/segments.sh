#!/usr/bin/env bash
# segments.sh [CASES] [CUSTOMERS]: what a night reports of clouds of customers in which something was planted, and how well segments are the
# kinds of customers that the generator drew from, beside scikit-learn.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export BENCH_DIR=${BENCH_DIR:-$HOME/.cache/tessera-bench}
mkdir -p "$BENCH_DIR"
if [ ! -x "$BENCH_DIR/venv-segments/bin/python" ]; then
  python3 -m venv "$BENCH_DIR/venv-segments"
  "$BENCH_DIR/venv-segments/bin/pip" install -q polars==2.1.0 pyarrow==26.0.1 scikit-learn==1.9.1 numpy
fi
export TESSERA_BIN=${TESSERA_BIN:-$(realpath "${CARGO_TARGET_DIR:-$here/../target}/release/tessera")}
export TESSERA_DEMO_PROJECT="$here/../crates/tessera/src/commands/demo/tessera.toml"
export TESSERA_SECRET=${TESSERA_SECRET:-a benchmark keeps no secrets}
"$BENCH_DIR/venv-segments/bin/python" "$here/planted.py" "${1:-100}"
"$BENCH_DIR/venv-segments/bin/python" "$here/recovery.py" "${2:-20000}"
