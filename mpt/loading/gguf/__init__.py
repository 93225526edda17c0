"""GGUF files, as llama.cpp's converter writes them, read as if they were Hugging Face folders."""
