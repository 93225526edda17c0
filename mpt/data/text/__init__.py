"""What a model is given to read: examples, conversations, and these as its chat template writes them."""
