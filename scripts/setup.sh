#!/usr/bin/env bash
# Make the environment that this checkout needs, once: scripts/setup.sh [EXTRAS], such as "pytorch" or "pytorch,test".
# LLEM_VENV says where (default .venv), PYTHON with which interpreter (default python3).
set -euo pipefail
cd "$(dirname "$0")/.."

extras="${1:-pytorch}"
venv="${LLEM_VENV:-.venv}"
python="${PYTHON:-python3}"

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "pytest-llem needs Python 3.11 or newer, and $python is $("$python" --version 2>&1); set PYTHON" >&2
    exit 1
}

# Where there is no NVIDIA GPU the constraint asks for torch's CPU build: 200 MB instead of several GB of CUDA.
flavour=gpu
[ -e /dev/nvidia0 ] || flavour=cpu
constraints="constraints/$flavour.txt"

wanted="$extras $(cat pyproject.toml "$constraints" | sha256sum)"
[ "$(cat "$venv/.llem" 2>/dev/null)" = "$wanted" ] && exit 0

"$python" -m venv "$venv" || {
    echo "python3 -m venv failed; on Debian and Ubuntu: apt-get install python3-venv" >&2
    exit 1
}
install() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint "$constraints" "$@"; }

if [ "$flavour" = cpu ]; then
    # A machine may know the CPU build from its own index or wheel folder; all others ask PyTorch's.
    install torch 2>/dev/null || install --extra-index-url https://download.pytorch.org/whl/cpu torch
fi
install --editable ".[$extras]"
echo "$wanted" >"$venv/.llem"
