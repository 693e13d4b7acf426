# Benchmarks, each paired with its own floor in one run. Not part of the tests: machines are noisy.
PYTHON ?= .venv/bin/python

.PHONY: bench bench-compose bench-gpu bench-plain bench-collect bench-expand bench-manifest bench-memory bench-dispatch bench-daemon bench-launch bench-overhead bench-coverage

bench: bench-plain bench-collect bench-expand bench-manifest bench-memory bench-dispatch bench-daemon bench-launch bench-overhead bench-coverage

bench-plain bench-collect bench-expand bench-manifest bench-memory bench-dispatch bench-daemon bench-launch bench-overhead: bench-%:
	$(PYTHON) benchmarks/$*.py

# Needs a Docker engine and the image of the service pytorch.
bench-compose:
	$(PYTHON) benchmarks/compose.py

# Needs an NVIDIA GPU without other work; writes docs/measurements/gpu-<name>.md in about an hour.
bench-gpu:
	$(PYTHON) benchmarks/gpu.py

bench-coverage:
	$(PYTHON) benchmarks/coverage.py --date $$(date -u +%F)
