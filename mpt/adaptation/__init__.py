"""One adaptation: its draws of examples, its jobs, and their results."""
