#!/usr/bin/env bash
# run.sh [S|M] [parquet|csv] [RUNS]: a night beside its peers, on the same files in the same run.
# PEERS names the folder of the reference job (SPEC.md, gen.py, run.py and a script per peer).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
scale=${1:-S} input=${2:-parquet} runs=${3:-3}
peers=$(realpath "${PEERS:-$here/../../shared/bench}") || { echo "set PEERS to the folder of the reference job" >&2; exit 2; }
work=${BENCH_DIR:-$HOME/.cache/tessera-bench}
mkdir -p "$work/out"
cp "$peers"/*.py "$here"/*.py "$work/"
cd "$work"
if [ ! -x venv/bin/python ]; then
  python3 -m venv venv
  venv/bin/pip install -q pandas==3.1.1 polars==2.1.0 duckdb==2.0.0 pyarrow==26.0.1 scikit-learn==1.9.1 numpy==2.4.6 threadpoolctl==3.8.0
fi
case $scale in S) customers=100000 ;; M) customers=1000000 ;; *) echo "scale S or M" >&2; exit 2 ;; esac
if [ ! -e "data/$scale/done" ]; then
  venv/bin/python gen.py --customers "$customers" --avg-orders 20 --out "data/$scale" --csv
  touch "data/$scale/done"
fi
export TESSERA_BIN=${TESSERA_BIN:-$(realpath "${CARGO_TARGET_DIR:-$here/../target}/release/tessera")}
export TESSERA_BENCH_PROJECT="$here/tessera.toml"
others=${OTHERS:-polars duckdb pandas}
results="results-$scale-$input.jsonl"
rm -f "$results"
# shellcheck disable=SC2086
venv/bin/python run.py "$results" "$runs" "$scale" "$input" tessera $others
suffix=$([ "$input" = csv ] && echo -csv || true)
for peer in $others; do
  echo "equality with $peer:"
  venv/bin/python equal.py "out/$scale-$peer$suffix" "out/$scale-tessera$suffix"
done
venv/bin/python table.py "$results" "$scale" "$input"
