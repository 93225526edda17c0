"""Frozen backbones: their families, weights, layers and cost."""
