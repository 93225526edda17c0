"""The sections on a run's prompts, its config and the software that it used."""

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


def prompt_sections(run: Facts) -> Iterator[Section]:
    """The section with the cards of a run's prompts."""
    if not run.cards:
        return
    head = ("file", "what it is", "training rows", "figures")
    lines = []
    for name, card in run.cards.items():
        figures = ", ".join(f"{what} {value:.4g}" for what, value in card.metrics.items())
        rows = ", ".join(f"{task} {count:,}" for task, count in card.rows.items())
        lines.append((name, card.method, rows, figures))
    card = next(iter(run.cards.values()))
    fits = (
        f"They fit {card.backbone} with weights of the hash {card.backbone_hash[:16]} and a tokenizer of "
        f"{card.tokenizer_hash[:16]}."
    )
    yield Section("Prompts", [table(head, lines, texts=4, named=True), paragraph(fits, faint=True)])


def record_sections(run: Facts) -> Iterator[Section]:
    """The sections with the config of a run, and the versions of its software."""
    command = type(run.config).__name__.removesuffix("Config").lower()
    words = f"mpt {command} {run.path / 'config.yaml'} runs it again, with another --out."
    blocks = [paragraph(words), folded("config.yaml", [listing(dump_config(run.config))])]
    yield Section("Config", blocks)
    versions = run.machine.get("software") or next((card.software for card in run.cards.values()), {})
    machine = [(words, str(run.machine[key])) for key, words in WHAT.items() if key in run.machine]
    lines = [*machine, *((name, version) for name, version in versions.items())]
    if lines:
        yield Section("Made with", [table(("", ""), lines, texts=2, named=True)])
