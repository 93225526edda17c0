"""Encoder-decoders: what they share, and T5 and T5Gemma."""
