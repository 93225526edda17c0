"""One adaptation: its draws of examples, its jobs, and what they gave."""
