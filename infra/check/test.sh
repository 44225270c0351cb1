#!/usr/bin/env bash
# What can be known of infra/ without a cluster, a cloud or a network: test.sh FOLDER_FOR_PACKAGES.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
infra=$(dirname "$here")
root=$(dirname "$infra")
venv=$1

# shellcheck source=tests/venv.sh
. "$root/tests/venv.sh"
venv "$venv" "$here/requirements.txt"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PATH="$venv/bin:$PATH"
export no_proxy='*'

hadolint --failure-threshold info "$infra/Dockerfile"
yamllint --strict --config-file "$here/yamllint.yaml" "$infra"
check-jsonschema --quiet --builtin-schema vendor.compose-spec "$infra/compose.yaml"
for overlay in base overlays/laptop overlays/production; do
  made="$work/$(basename "$overlay").yaml"
  kubectl kustomize "$infra/kubernetes/$overlay" >"$made"
  kubernetes-validate --strict --kubernetes-version 1.37 "$made" >/dev/null
  # Nothing runs as root, nothing may become it, and every pod is fenced.
  [ "$(grep -c 'runAsNonRoot: true' "$made")" -eq 3 ]
  [ "$(grep -c 'allowPrivilegeEscalation: false' "$made")" -eq 3 ]
  [ "$(grep -c 'kind: NetworkPolicy' "$made")" -eq 3 ]
done
python "$here/terraform.py" "$infra/terraform"
find "$root" -name '*.sh' -not -path '*/target/*' -print0 | xargs -0 shellcheck --external-sources --source-path="$root"
shellcheck "$root/.ci/run"
echo "infra: passed"
