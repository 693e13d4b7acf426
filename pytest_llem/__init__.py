"""Energy, throughput and latency of LLM inference, measured as pytest campaigns.

The package imports nothing at its top: a pytest session without a campaign must not notice that it is
installed. The rooms and who may import whom are laid out in `docs/architecture.md`.
"""

__version__ = "0.1.0"
