"""Inference engines, one folder each: `spec.py` for the host, `engine.py` beside the model."""
