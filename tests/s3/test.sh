#!/usr/bin/env bash
# The same night with sources and lake on an S3 server, in one process and on a cluster, through a network that fails:
# test.sh FOLDER_FOR_PACKAGES TESSERA.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
venv=$1 tessera=$(realpath "$2")

stamp="$venv/.lock-$(sha256sum "$here/requirements.txt" | cut -c1-16)"
if [ ! -e "$stamp" ]; then
  python3 -m venv --clear "$venv"
  "$venv/bin/pip" install -q -r "$here/requirements.txt"
  touch "$stamp"
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Samples are taken by hash of the customer's key: the same on every machine.
export TESSERA_SECRET='the tests keep no secrets'
export PATH="$venv/bin:$PATH"
"$venv/bin/python" "$here/s3.py" "$work" "$tessera" "$here/../../crates/tessera/src/commands/demo/tessera.toml"
