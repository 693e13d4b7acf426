"""The `tensorrt` backend: TensorRT-LLM."""
