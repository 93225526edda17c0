"""The metadata in front of a card, by which the Hugging Face hub finds and shows a prompt."""

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
        backbone: the name that others know it by; it is the base model where it is one of the hub's.
        templates: task -> how its records read, as a card has it.
        datasets: task -> the hub's data set that it was trained on, where it was.
        figures: what was found on held-out rows, as a card has it.
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
    """What the hub calls the work of a prompt: that of all its tasks, or writing text.

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
