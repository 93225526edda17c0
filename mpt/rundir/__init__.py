"""A run directory: its files, checkpoints and trackers."""
