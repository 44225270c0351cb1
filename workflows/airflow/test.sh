#!/usr/bin/env bash
# Runs the DAG for real: test.sh FOLDER_FOR_AIRFLOW TESSERA. Airflow is installed there once, from the lock beside.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
venv=$1 tessera=$(realpath "$2")

stamp="$venv/.lock-$(sha256sum "$here/requirements.lock" | cut -c1-16)"
if [ ! -e "$stamp" ]; then
  python3 -m venv --clear "$venv"
  "$venv/bin/pip" install -q uv
  "$venv/bin/uv" pip install -q --python "$venv/bin/python" -r "$here/requirements.lock"
  touch "$stamp"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Samples are taken by hash of the customer's key: the same on every machine.
export TESSERA_SECRET='the tests keep no secrets'
export AIRFLOW_HOME="$work/airflow" AIRFLOW__CORE__DAGS_FOLDER="$here" AIRFLOW__CORE__LOAD_EXAMPLES=False
export AIRFLOW__LOGGING__LOGGING_LEVEL=WARNING PYTHONDONTWRITEBYTECODE=1
export TESSERA_BIN="$tessera" TESSERA_PROJECT="$work/tessera.toml"

"$tessera" generate --customers 400 --out "$work/data"
# The demo's project reads what `generate` writes.
cp "$here/../../crates/tessera/src/commands/demo/tessera.toml" "$TESSERA_PROJECT"

"$venv/bin/airflow" db migrate >/dev/null 2>&1
"$venv/bin/python" "$here/test_dag.py"

echo "-- a night"
"$venv/bin/airflow" dags test tessera_nightly --conf '{"as_of": "2026-01-01"}' >"$work/log" 2>&1 || { tail -50 "$work/log"; exit 1; }
"$tessera" snapshots list --project "$TESSERA_PROJECT"
"$tessera" snapshots list --json --project "$TESSERA_PROJECT" >"$work/scheduled.json"

echo "-- the same night by one command is the same night"
"$tessera" run --as-of 2026-01-01 --project "$TESSERA_PROJECT" --lake "$work/other" >/dev/null
"$tessera" snapshots list --json --project "$TESSERA_PROJECT" --lake "$work/other" >"$work/direct.json"
python3 - "$work/scheduled.json" "$work/direct.json" <<'PY'
import json, sys
(a,), (b,) = (json.load(open(f)) for f in sys.argv[1:])
left, right = ({n: t["fingerprint"] for n, t in r["tables"].items()} for r in (a, b))
assert a["state"] == "published" and left == right, (left, right)
print(f"{len(left)} tables, equal fingerprints")
PY

echo "-- a night that a gate holds fails without another try"
held="--set validation.gates.silhouette.at_least=0.99"
if TESSERA_ARGS="$held" "$venv/bin/airflow" dags test tessera_nightly --conf '{"as_of": "2025-12-01"}' >"$work/log" 2>&1; then
  echo "the held night passed"; tail -50 "$work/log"; exit 1
fi
grep -q "exit code 3" "$work/log" || { tail -50 "$work/log"; exit 1; }
"$tessera" snapshots list --project "$TESSERA_PROJECT" | grep held >/dev/null
echo "workflow: 4 passed, 0 failed"
