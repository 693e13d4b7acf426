#!/usr/bin/env bash
# Lint, type-check and test; does all of its own set-up. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
echo "setting up ${LLEM_VENV:-.venv} (once; a few minutes where torch must be downloaded) ..."
scripts/setup.sh pytorch,quantization,datasets,test
bin="${LLEM_VENV:-.venv}/bin"
"$bin/ruff" check .
"$bin/ruff" format --check .
"$bin/mypy"
exec "$bin/pytest" "$@"
