"""What to learn: one declarative module per benchmark, each with a tuple ``TASKS``."""
