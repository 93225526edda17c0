"""Backbones from Hugging Face folders and GGUF files, tensor by tensor, and their families."""
