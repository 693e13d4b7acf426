"""The `vllm` backend: continuous batching by vLLM."""
