"""Turns records into text-to-text examples, and examples into batches of token ids."""
