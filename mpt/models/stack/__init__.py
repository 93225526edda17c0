"""Stacks of layers of one kind or of several, and how they run."""
