"""One training stage: the loop, losses, the optimizer, and what it costs."""
