"""Pretraining: the stages that make a universal prompt, and what each source task gained from them."""
