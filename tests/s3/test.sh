#!/usr/bin/env bash
# The same night with sources and lake on an S3 server, in one process and on a cluster, through a network that fails:
# test.sh FOLDER_FOR_PACKAGES TESSERA.
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
export PATH="$venv/bin:$PATH"
"$venv/bin/python" "$here/s3.py" "$work" "$tessera" "$here/../../crates/tessera/src/commands/demo/tessera.toml"
