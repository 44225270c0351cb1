#!/usr/bin/env bash
# A tenth of the attacks, always the same: test.sh FOLDER_FOR_PACKAGES TESSERA. More, and others: hostile.py.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/venv.sh
. "$here/../venv.sh"
venv "$1" "$here/requirements.txt"
"$1/bin/python" "$here/hostile.py" "$(realpath "$2")" --share 0.1
