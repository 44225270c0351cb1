#!/usr/bin/env bash
# The readers that analysts use see what `tessera sql` sees: test.sh FOLDER_FOR_PACKAGES TESSERA.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
venv=$1 tessera=$(realpath "$2")

# shellcheck source=tests/venv.sh
. "$here/../venv.sh"
venv "$venv" "$here/requirements.txt"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Samples are taken by hash of the customer's key: the same on every machine.
export TESSERA_SECRET='the tests keep no secrets'
"$tessera" demo --customers 600 --dir "$work" >/dev/null
# Large enough for tables in buckets.
mkdir "$work/large"
cp "$here/../../crates/tessera/src/commands/demo/tessera.toml" "$work/large/"
"$tessera" generate --customers 6000 --format csv --out "$work/large/data" >/dev/null
"$tessera" run --as-of 2026-01-01 --project "$work/large/tessera.toml" --set engine.partitions=2 >/dev/null
"$venv/bin/python" "$here/read.py" "$work" "$tessera"
