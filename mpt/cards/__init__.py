"""What saved prompts are and fit, and the banks that keep them. Nothing here loads JAX, which is slow."""
