"""What a backbone is called elsewhere, for what travels: no path of this machine goes with it."""

from __future__ import annotations

from pathlib import Path

# What a packaged model is on the hub.
HUB = {"smollm2-135m": "HuggingFaceTB/SmolLM2-135M-Instruct", "gemma3-270m": "google/gemma-3-270m"}


def known_as(backbone: str) -> str:
    """The name of a backbone without this machine's folders.

    >>> known_as("/home/me/models/tiny/"), known_as("owner/name")
    ('tiny', 'owner/name')
    """
    path = Path(backbone)
    if backbone in HUB:
        return HUB[backbone]
    cached = next((part for part in path.parts if part.startswith("models--")), "")
    if cached.count("--") == 2:  # the hub's client keeps owner/name in models--owner--name
        return "/".join(cached.split("--")[1:])
    return backbone if _on_hub(backbone) else path.resolve().name


def _on_hub(backbone: str) -> bool:
    """Whether a name has the hub's form, owner/name, and is no path here."""
    local = backbone.startswith((".", "/", "~")) or backbone.endswith(".gguf") or Path(backbone).exists()
    return backbone.count("/") == 1 and not local
