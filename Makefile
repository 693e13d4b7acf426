# Benchmarks, each paired with its own floor in one run. Not part of the tests: machines are noisy.
PYTHON ?= .venv/bin/python

.PHONY: bench bench-compose bench-plain bench-collect bench-expand bench-manifest bench-memory bench-dispatch bench-daemon bench-launch bench-overhead bench-coverage

bench: bench-plain bench-collect bench-expand bench-manifest bench-memory bench-dispatch bench-daemon bench-launch bench-overhead bench-coverage

bench-plain bench-collect bench-expand bench-manifest bench-memory bench-dispatch bench-daemon bench-launch bench-overhead: bench-%:
	$(PYTHON) benchmarks/$*.py

# Needs a Docker engine and the image of the service pytorch.
bench-compose:
	$(PYTHON) benchmarks/compose.py

bench-coverage:
	$(PYTHON) benchmarks/coverage.py --date $$(date -u +%F)
