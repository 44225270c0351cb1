#!/usr/bin/env bash
# Kills an executor at a random moment of each of N nights; each ends right, or with exit code 75 and right when run again:
# kill.sh TESSERA [N] [SEED].
set -euo pipefail
tessera=$(realpath "$1") nights=${2:-20} RANDOM=${3:-1}
project=$(realpath "$(dirname "$0")/../crates/tessera/src/commands/demo/tessera.toml")
work=$(mktemp -d)
cleanup() {
  jobs -p | xargs --no-run-if-empty kill -9 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
cd "$work"
export TESSERA_SECRET='the tests keep no secrets'
cp "$project" tessera.toml
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
fingerprints() {
  "$tessera" snapshots show --as-of 2026-01-01 --json --lake "$1" |
    python3 -c 'import json, sys; print({k: v["fingerprint"] for k, v in json.load(sys.stdin)["tables"].items()})'
}
declare -a executors
executor() {
  "$tessera" executor --scheduler "127.0.0.1:$port" --bind-port 0 --cores 1 --memory 1GiB --work-dir "work-$1-$RANDOM" \
    2>>"executor-$1.log" &
  executors[$1]=$!
}

"$tessera" generate --customers 3000 --out data 2>/dev/null
"$tessera" run --as-of 2026-01-01 --lake local >/dev/null 2>&1
expect=$(fingerprints local)
"$tessera" scheduler --bind-port "$port" --executor-timeout 10 2>scheduler.log &
for i in 0 1 2; do executor "$i"; done

again=0
for night in $(seq "$nights"); do
  "$tessera" run --as-of 2026-01-01 --lake "lake-$night" --engine "ballista://127.0.0.1:$port" >/dev/null 2>"night-$night.log" &
  run=$!
  sleep "$((RANDOM % 5)).$((RANDOM % 10))"
  victim=$((RANDOM % 3))
  kill -9 "${executors[$victim]}"
  wait "${executors[$victim]}" 2>/dev/null || true
  executor "$victim"
  code=0
  wait "$run" || code=$?
  if [ "$code" = 75 ]; then
    again=$((again + 1))
    "$tessera" run --as-of 2026-01-01 --lake "lake-$night" --engine "ballista://127.0.0.1:$port" >/dev/null 2>&1
  elif [ "$code" != 0 ]; then
    cat "night-$night.log"
    echo "night $night ended with $code" >&2
    exit 1
  fi
  if [ "$(fingerprints "lake-$night")" != "$expect" ]; then
    cat "night-$night.log"
    echo "night $night is another one" >&2
    exit 1
  fi
  "$tessera" snapshots verify --lake "lake-$night" >/dev/null
  lost=$(grep -c "done again" "night-$night.log" || true)
  echo "night $night: executor $victim killed, $lost jobs done again, exit code $code"
done
echo "kill: $nights nights, each the same; $again of them had to be run again"
