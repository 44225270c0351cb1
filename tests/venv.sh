# shellcheck shell=bash
# Sourced by the scripts that need packages of PyPI: venv FOLDER REQUIREMENTS makes the folder a virtual environment with exactly
# these, unless it is one already.
venv() {
  local folder=$1 requirements=$2 stamp
  stamp="$folder/.lock-$(sha256sum "$requirements" | cut -c1-16)"
  if [ ! -e "$stamp" ]; then
    python3 -m venv --clear "$folder"
    "$folder/bin/pip" install -q -r "$requirements"
    touch "$stamp"
  fi
}
