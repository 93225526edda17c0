"""The metadata at the beginning of a card, which the Hugging Face hub uses to find and show a prompt."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

# A figure of a card: "test accuracy", or "reviews test accuracy" of a card with several tasks.
FIGURE = re.compile(r"(?:(?P<task>.+) )?(?P<split>train|validation|test) (?P<metric>\w+)")


def metadata(
    title: str,
    backbone: str,
    templates: Mapping[str, Mapping[str, Any]],
    datasets: Mapping[str, str],
    figures: Mapping[str, float],
    library: str,
) -> str:
    """The metadata of a prompt as a block of YAML between lines of ``---``.

    Args:
        title: what the prompt is, in a few words.
        backbone: its public name; it is the base model if it is on the hub.
        templates: task -> its template, as in a card.
        datasets: task -> the hub's data set that it was trained on, if any.
        figures: scores on held-out rows, as in a card.
        library: the library that loads the prompt.
    """
    results = list(_results(templates, datasets, figures))
    data = ModelCardData(
        library_name=library,
        base_model=backbone if "/" in backbone else None,
        pipeline_tag=pipeline(list(templates.values())),
        tags=["prompt-tuning", "soft-prompt"],
        datasets=sorted(set(datasets.values())) or None,
        metrics=sorted({each.metric_type for each in results}) or None,
        model_name=title if results else None,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---\n"


def pipeline(templates: Sequence[Mapping[str, Any]]) -> str:
    """The hub's name for what a prompt does: that of all its tasks, or text generation.

    >>> pipeline([{"verbalizer": {"no": "bad", "yes": "good"}}]), pipeline([{"verbalizer": None}])
    ('text-classification', 'text-generation')
    """
    classes = templates and all(template.get("verbalizer") for template in templates)
    return "text-classification" if classes else "text-generation"


def _results(
    templates: Mapping[str, Mapping[str, Any]], datasets: Mapping[str, str], figures: Mapping[str, float]
) -> Iterator[EvalResult]:
    """The figures that are metrics of a task, as the hub lists them."""
    for name, value in figures.items():
        found = FIGURE.fullmatch(name)
        task = str((found and found["task"]) or next(iter(templates), ""))
        if found and task in templates and math.isfinite(value):
            yield EvalResult(
                task_type=pipeline([templates[task]]),
                dataset_type=datasets.get(task, task),
                dataset_name=task,
                dataset_split=found["split"],
                metric_type=found["metric"],
                metric_value=round(float(value), 4),
            )
