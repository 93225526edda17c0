"""The input texts of a model: examples, conversations, and conversations rendered by its chat template."""
