#!/usr/bin/env bash
# Measure the quickstart campaign; does all of its own set-up. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
echo "setting up ${LLEM_VENV:-.venv} (once; a few minutes where torch must be downloaded) ..."
scripts/setup.sh pytorch
exec "${LLEM_VENV:-.venv}/bin/pytest" --campaign campaigns/quickstart.yaml "$@"
