#!/usr/bin/env bash
# chained.sh [S|M] [RUNS]: a night that goes on from the one before, beside a full night, in the same run. PEERS names the folder
# of the reference job, whose generator makes the data. Prints the seconds of each stage, ratios, and bytes written.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
scale=${1:-S} runs=${2:-3}
peers=$(realpath "${PEERS:-$here/../../shared/bench}") || { echo "set PEERS to the folder of the reference job" >&2; exit 2; }
work=${BENCH_DIR:-$HOME/.cache/tessera-bench}
mkdir -p "$work"
cp "$peers"/*.py "$here"/*.py "$here"/chained.toml "$work/"
cd "$work"
if [ ! -x venv/bin/python ]; then
  python3 -m venv venv
  venv/bin/pip install -q polars==2.1.0 pyarrow==26.0.1 numpy==2.4.6
fi
case $scale in S) customers=100000 ;; M) customers=1000000 ;; *) echo "scale S or M" >&2; exit 2 ;; esac
[ -e "data/$scale/transactions" ] || venv/bin/python gen.py --customers "$customers" --avg-orders 20 --out "data/$scale"
[ -e "data/$scale-days/dump-changed" ] || venv/bin/python days.py "data/$scale" "data/$scale-days"
export TESSERA_BIN=${TESSERA_BIN:-$(realpath "${CARGO_TARGET_DIR:-$here/../target}/release/tessera")}
export TESSERA_SECRET=${TESSERA_SECRET:-a benchmark keeps no secrets}
venv/bin/python chained.py "data/$scale-days" "$runs"
