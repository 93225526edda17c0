"""Prompts that travel: into the formats of other libraries, and from them."""
