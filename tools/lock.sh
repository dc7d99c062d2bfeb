#!/usr/bin/env bash
# Compiles requirements/*.in to .txt: every version and its hashes, for each Python from 3.11 on, and no download address.
# Versions already locked stay; `tools/lock.sh --upgrade` takes the newest that the .in files allow.
set -euo pipefail
cd "$(dirname "$0")/.."

# Only whoever changes a requirement needs uv, so it is not in any of the sets.
if ! command -v uv >/dev/null; then
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  .venv/bin/python -m venv "$scratch"
  "$scratch/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
  PATH=$scratch/bin:$PATH
fi

# run and load first: the others are constrained by them, so that every set agrees on a version.
for set in run load test bench; do
  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
    --no-emit-index-url --no-emit-find-links "$@" \
    --output-file "requirements/$set.txt" "requirements/$set.in" >/dev/null
done

if grep -nE '://|^-' requirements/*.txt; then
  echo "lock: the lines above name an address or an option; a lock holds versions and hashes only" >&2
  exit 1
fi
