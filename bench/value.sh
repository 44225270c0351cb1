#!/usr/bin/env bash
# value.sh [M]: the models of customer value from the raw file of the public CDNOW panel, beside the published parameters; with M, of a million
# customers too, beside lifetimes' maximum likelihood on the same counts in the same run. The panel comes with lifetimes' package.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export BENCH_DIR=${BENCH_DIR:-$HOME/.cache/tessera-bench}
mkdir -p "$BENCH_DIR"
if [ ! -x "$BENCH_DIR/venv-value/bin/python" ]; then
  python3 -m venv "$BENCH_DIR/venv-value"
  "$BENCH_DIR/venv-value/bin/pip" install -q lifetimes==0.11.3 'pandas<3' pyarrow==26.0.1 scipy
fi
export TESSERA_BIN=${TESSERA_BIN:-$(realpath "${CARGO_TARGET_DIR:-$here/../target}/release/tessera")}
export TESSERA_SECRET=${TESSERA_SECRET:-a benchmark keeps no secrets}
"$BENCH_DIR/venv-value/bin/python" "$here/value.py"
[ "${1:-}" = M ] || exit 0
[ -d "$BENCH_DIR/chained/lake-long" ] || { echo "run chained.sh M first: its lake is of a million customers" >&2; exit 2; }
"$BENCH_DIR/venv-value/bin/python" "$here/value.py" "$BENCH_DIR/chained"
