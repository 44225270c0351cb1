#!/usr/bin/env bash
# cluster.sh [S|M] [RUNS]: the night in one process with two cores, on a cluster of two executors of one core, and on one executor
# of one core, by turns; medians, the overhead and the speed-up. The data are those of run.sh.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
scale=${1:-M} runs=${2:-3}
work=${BENCH_DIR:-$HOME/.cache/tessera-bench}
data="$work/data/$scale"
[ -e "$data/done" ] || { echo "run bench/run.sh $scale first: it makes the data" >&2; exit 2; }
tessera=${TESSERA_BIN:-$(realpath "${CARGO_TARGET_DIR:-$here/../target}/release/tessera")}
export TESSERA_SECRET='the benchmark keeps no secrets'
out=$(mktemp -d)
stop() { jobs -p | xargs --no-run-if-empty kill -9 2>/dev/null || true; wait 2>/dev/null || true; }
trap 'stop; rm -rf "$out"' EXIT
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')

night() { # NAME ENGINE…
  local name=$1 lake="$out/$1"
  shift
  rm -rf "$lake"
  local began
  began=$(date +%s.%N)
  "$tessera" run --as-of 2026-01-01 --project "$here/tessera.toml" --lake "$lake" "$@" \
    --set "sources.customers.url=$data/customers/" --set "sources.transactions.url=$data/transactions/" >/dev/null 2>"$out/$name.log"
  python3 -c 'import sys; print(sys.argv[1], float(sys.argv[3]) - float(sys.argv[2]))' "$name" "$began" "$(date +%s.%N)" |
    tee -a "$out/results"
}
cluster() { # EXECUTORS
  "$tessera" scheduler --bind-port "$port" 2>/dev/null &
  for i in $(seq "$1"); do
    "$tessera" executor --scheduler "127.0.0.1:$port" --bind-port 0 --cores 1 --work-dir "$out/work-$i" 2>/dev/null &
  done
  sleep 2
  night "executors-$1" --engine "ballista://127.0.0.1:$port"
  stop
}
for _ in $(seq "$runs"); do
  night local --set engine.partitions=2
  cluster 2
  cluster 1
done
python3 - "$out/results" <<'P'
import statistics, sys
seconds = {}
for line in open(sys.argv[1]):
    name, value = line.split()
    seconds.setdefault(name, []).append(float(value))
m = {name: statistics.median(values) for name, values in seconds.items()}
print(f"medians: one process {m['local']:.1f} s, two executors {m['executors-2']:.1f} s, one executor {m['executors-1']:.1f} s")
print(f"overhead {m['executors-2'] / m['local']:.2f}, speed-up {m['executors-1'] / m['executors-2']:.2f}")
P
