"""Rows and their answers: kept, counted and shown."""

from __future__ import annotations

import numpy as np

from mpt.data.sources import Files
from mpt.data.task import Example, Task
from mpt.inference.answers import KEPT, Answered, keep_answers, kept_answers
from mpt.inference.evaluate import Answers
from mpt.report.mistakes import MANY, answer_sections, counts


def rows(words: list[str], pairs: list[tuple[str, str]], seed: int = 0) -> list[Answered]:
    """Rows of (right, predicted), of which the model is surest in the end."""
    return [
        Answered("topic", seed, f"row {i}", [right], said, {word: 0.1 * (word == said) + i for word in words})
        for i, (right, said) in enumerate(pairs)
    ]


def test_texts_may_differ_in_what_squad_lets_pass(tmp_path):
    task = Task("hub/qa:short", Files({}), "{text}")
    examples = [
        Example("{text}", {"text": "who?"}, "The U.S. Army", references=("The U.S. Army", "they"))
    ] * 3
    keep_answers(tmp_path, task, 7, examples, Answers(["us army", "They", "me"], None))
    assert [path.name for path in (tmp_path / "predictions").iterdir()] == ["hub_qa_short-seed7.jsonl"]
    ((name, by_seed),) = kept_answers(tmp_path).items()
    assert name == "hub/qa:short"
    assert [(row.is_correct, row.confidence) for row in by_seed[7]] == [
        (True, 0.0),
        (True, 0.0),
        (False, 0.0),
    ]
    (section,) = answer_sections({name: by_seed})  # no classes: no confusion
    assert section.title == "Mistakes" and "1 of 3 rows were predicted wrongly" in "".join(section.blocks)


def test_only_the_first_rows_are_kept(tmp_path):
    task = Task("tone", Files({}), "{text}", {"0": "bad", "1": "good"})
    examples = [Example("{text}", {"text": "fine"}, "good", task.choices)] * (KEPT + 5)
    shares = np.tile(np.array([0.25, 0.75], np.float32), (len(examples), 1))
    keep_answers(tmp_path, task, 0, examples, Answers(["good"] * len(examples), shares))
    kept = kept_answers(tmp_path)["tone"][0]
    assert len(kept) == KEPT and kept[0].probabilities == {"bad": 0.25, "good": 0.75}
    assert "no wrong prediction in 500 rows" in "".join([*answer_sections({"tone": {0: kept}})][1].blocks)


def test_confusion_counts_right_words_down():
    found = counts(rows(["a", "b"], [("a", "a"), ("a", "b"), ("a", "b"), ("b", "b")]), ["a", "b"])
    assert found.tolist() == [[1, 2], [0, 1]]


def test_too_many_classes_are_told_as_pairs():
    words = [f"class {i}" for i in range(MANY + 1)]
    wrong = [("class 3", "class 7")] * 2 + [("class 1", "class 2")]
    confusion, _ = answer_sections({"topic": {0: rows(words, [(word, word) for word in words] + wrong)}})
    text = "".join(confusion.blocks)
    assert "<svg" not in text
    assert text.index("class 7") < text.index("class 2") and "81.2 % of 16 predictions are correct" in text


def test_worst_mistakes_come_first():
    """What both seeds miss, then what the model is surest of."""
    words = ["a", "b"]
    first = rows(words, [("a", "b"), ("a", "b"), ("a", "a"), ("a", "b")])
    second = rows(words, [("a", "b"), ("a", "a"), ("a", "a"), ("a", "a")], seed=1)
    text = "".join([*answer_sections({"topic": {0: first, 1: second}})][1].blocks)
    assert "3 of 4 rows were predicted wrongly by at least one of 2 seeds" in text
    assert text.index("row 0") < text.index("row 3") < text.index("row 1")
    assert "row 2" not in text
