"""What a run was given, what came out, and with what it was made."""

from __future__ import annotations

from collections.abc import Iterator

from mpt.config.yaml_file import dump_config
from mpt.render.html import Section, folded, listing, paragraph, table
from mpt.report.facts import Facts

WHAT = {
    "system": "system",
    "devices": "devices",
    "processes": "processes",
}


def prompt_sections(found: Facts) -> Iterator[Section]:
    """The cards of a run's prompts."""
    if not found.cards:
        return
    head = ("file", "what it is", "training rows", "figures")
    lines = []
    for name, card in found.cards.items():
        figures = ", ".join(f"{what} {value:.4g}" for what, value in card.metrics.items())
        rows = ", ".join(f"{task} {count:,}" for task, count in card.rows.items())
        lines.append((name, card.method, rows, figures))
    card = next(iter(found.cards.values()))
    fits = (
        f"They fit {card.backbone} with weights of the hash {card.backbone_hash[:16]} and a tokenizer of "
        f"{card.tokenizer_hash[:16]}."
    )
    yield Section("Prompts", [table(head, lines, texts=4, named=True), paragraph(fits, faint=True)])


def record_sections(found: Facts) -> Iterator[Section]:
    """The config, and versions."""
    command = type(found.config).__name__.removesuffix("Config").lower()
    words = f"mpt {command} {found.path / 'config.yaml'} runs it again, with another --out."
    parts = [paragraph(words), folded("config.yaml", [listing(dump_config(found.config))])]
    yield Section("Config", parts)
    versions = found.machine.get("software") or next((card.software for card in found.cards.values()), {})
    made = [(words, str(found.machine[key])) for key, words in WHAT.items() if key in found.machine]
    lines = [*made, *((name, version) for name, version in versions.items())]
    if lines:
        yield Section("Made with", [table(("", ""), lines, texts=2, named=True)])
