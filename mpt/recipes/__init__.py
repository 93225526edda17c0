"""What the commands do, each read from top to bottom."""
