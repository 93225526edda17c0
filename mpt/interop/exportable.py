"""Whether a run's prompts can be exported, as their card says; nothing here loads JAX."""

from __future__ import annotations

from mpt.cards.card import Card
from mpt.cards.files import damaged
from mpt.errors import UserError
from mpt.rundir.found import trained_prompts
from mpt.system.paths import AnyPath

KINDS = ("soft", "multitask", "prefix")  # what other libraries have a place for


def first_card(run: AnyPath) -> Card | None:
    """The card of the prompt that a run trained, of its first seed; None if there is none."""
    file = run / "prompts" / f"{trained_prompts(run)[0]}.json"
    if not file.is_file():
        return None
    try:
        return Card.read(file.read_bytes())
    except (ValueError, TypeError) as error:
        raise damaged(str(file), error) from None


def check_exportable(run: AnyPath, card: Card, format: str) -> None:
    """Refuses prompts that a format has no place for.

    Raises:
        UserError: they are more than a prompt, or of a kind or at a place that other libraries do not read.
    """
    if card.kind not in KINDS:
        raise UserError(
            f"{run}: what it holds is more than a prompt ({card.kind}), which no other library reads; "
            "export a run of `--method prompt`, spot, ulpt or prefix"
        )
    if card.layer:
        raise UserError(
            f"{run}: its prompts enter before layer {card.layer} (vectors.layer), and other libraries put "
            "prompts before the first; use them with mpt"
        )
    if card.opening and format == "peft":
        raise UserError(
            f"{run}: its prompts stand inside the user's turn (place), and PEFT puts prompts in front of "
            "everything; give --format embeddings, whose README has the place, or train without place"
        )
    if card.kind == "prefix" and format == "embeddings":
        raise UserError(f"{run}: it holds keys and values of every layer, not embeddings; give --format peft")
