"""Stands in for TensorRT-LLM 1.2: its LLM API as documented, and token ids out of nothing.

Classes, arguments and defaults are those of https://nvidia.github.io/TensorRT-LLM/llm-api/reference.html for
version 1.2; the classes of compiled engines those of https://nvidia.github.io/TensorRT-LLM/1.1.0rc3/torch.html,
which were removed later (https://nvidia.github.io/TensorRT-LLM/legacy/tensorrt-backend-removal.html). An argument
that is not documented raises, as it does there. `executor.py` says how its behaviour is set, `calls.py` what is
recorded.

Tests put it on the path of an engine process under its real name.
"""

from __future__ import annotations

from .llmapi import LLM, SamplingParams

__all__ = ["LLM", "SamplingParams", "__version__"]

__version__ = "1.2.1"
