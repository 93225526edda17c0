"""A prompted backbone at work: probabilities, texts, scores."""
