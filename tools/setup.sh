#!/usr/bin/env bash
# Makes .venv current: requirements/run.txt, the sets named (tools/setup.sh test bench), evenflow itself, the generated contracts.
# What is current already is left alone, so every command of the Makefile can begin here.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
  echo "setup: $*" >&2
  exit 1
}

new_enough() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# The scripts in .venv name its folder: one that was moved is of no use, nor is one whose Python has gone.
usable() {
  grep -qsF "$PWD/.venv/bin/python" .venv/bin/pip && new_enough .venv/bin/python || return 1
  local version='import sys; print(sys.version_info[:2])'
  [ -z "${PYTHON:-}" ] || [ "$("$PYTHON" -c "$version" 2>/dev/null)" = "$(.venv/bin/python -c "$version")" ]
}

# .venv/installed holds a copy of each file as it was when its install succeeded.
current() {
  cmp -s "$1" ".venv/installed/${1##*/}"
}

remember() {
  mkdir -p .venv/installed
  cp "$1" .venv/installed/
}

pip_install() {
  .venv/bin/python -m pip install -qq --disable-pip-version-check "$@"
}

if ! usable; then
  python=${PYTHON:-python3}
  command -v "$python" >/dev/null || fail "$python not found; Evenflow needs Python 3.11 or newer (make setup PYTHON=...)"
  new_enough "$python" || fail "$("$python" --version 2>&1) is too old or broken; Evenflow needs Python 3.11 or newer (make setup PYTHON=...)"
  rm -rf .venv
  echo "setup: making .venv with $("$python" --version)"
  "$python" -m venv .venv || { rm -rf .venv && fail "$python could not make a virtual environment"; }
fi

for set in run "$@"; do
  file=requirements/$set.txt
  if ! current "$file"; then
    echo "setup: installing $file"
    pip_install --require-hashes -r "$file"
    remember "$file"
  fi
done

if ! current pyproject.toml; then
  pip_install --no-deps --no-build-isolation -e .
  remember pyproject.toml
fi

.venv/bin/python tools/generate_protos.py
