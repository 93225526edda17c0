"""Inference with a prompted backbone: probabilities, texts, scores."""
