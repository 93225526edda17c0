"""Records become examples, and examples batches of token ids."""
