"""Tensors in, tensors out: no model, file, device choice, log line or global seed."""
