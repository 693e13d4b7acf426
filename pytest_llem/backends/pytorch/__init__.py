"""The `pytorch` backend: Hugging Face transformers on PyTorch, batched by this package."""
