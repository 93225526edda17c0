"""What holds for every metric."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.data.sources import Files
from mpt.data.task import Example, Task
from mpt.errors import UserError
from mpt.inference.evaluate import grade
from mpt.metrics import METRICS, NEEDS, Truth, benchmark_average

CORRELATIONS = {"matthews", "pearson", "spearman"}
NUMBERS = st.integers(0, 50).map(lambda tenths: str(tenths / 10))
# Four words, none of them an article, are the fewest that have a figure in every metric.
WORDS = st.sampled_from(["rain", "wind", "snow", "fog", "sun"])
SENTENCES = st.lists(WORDS, min_size=4, max_size=7).map(" ".join)


def right_texts(name: str, **size):
    return st.lists(NUMBERS if name in {"pearson", "spearman"} else SENTENCES, **size)


def truths_of(texts, others=()) -> list[Truth]:
    choices = tuple(dict.fromkeys(texts))
    return [Truth((text, *others[row:]), str(row % 2), choices) for row, text in enumerate(texts)]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", METRICS)
@given(data=st.data())
def test_what_is_right_scores_one(name, data):
    texts = data.draw(right_texts(name, min_size=2, max_size=6, unique=True))
    assert METRICS[name](truths_of(texts), texts) == pytest.approx(1)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", METRICS)
@given(data=st.data())
def test_a_figure_is_a_share_whatever_the_rows_order(name, data):
    texts = data.draw(right_texts(name, min_size=1, max_size=6))
    truths = truths_of(texts, data.draw(st.lists(SENTENCES, max_size=2)))
    rows = [(truth, data.draw(st.sampled_from(texts) | st.text(max_size=9))) for truth in truths]
    figure = METRICS[name](*map(list, zip(*rows)))
    assert (-1 if name in CORRELATIONS else 0) - 1e-9 <= figure <= 1 + 1e-9
    shuffled = data.draw(st.permutations(rows))
    assert METRICS[name](*map(list, zip(*shuffled))) == pytest.approx(figure, abs=1e-9)


def test_libraries_are_imported_when_used():
    program = (
        "import sys, mpt.metrics\n"
        "heavy = {'sklearn', 'scipy', 'sacrebleu', 'rouge_score', 'numpy', 'jax'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def task(*metrics: str, **rest) -> Task:
    return Task("toy", Files({}), "{text}", metrics=metrics, **rest)


@pytest.mark.parametrize(("metric", "part"), NEEDS.items())
def test_task_lacking_what_its_metric_needs_is_refused(metric, part):
    with pytest.raises(UserError, match=f"task toy: metric {metric} needs a {part}"):
        task("accuracy", metric)


def test_grade_hands_metrics_all_they_need():
    multirc = task("multirc_em", "f1", verbalizer={"0": "no", "1": "yes"}, group="question")
    rows = [("a", "yes"), ("a", "no"), ("b", "yes")]
    examples = [Example("", {}, target, multirc.choices, (), group) for group, target in rows]
    assert grade(multirc, examples, ["yes", "no", "no"]) == {"multirc_em": 1 / 2, "f1": pytest.approx(2 / 3)}
    several = [Example("", {}, "one", references=("one", "1"))]
    assert grade(task("squad_em"), several, ["1"]) == {"squad_em": 1}


def test_nothing_cannot_be_graded():
    with pytest.raises(UserError, match="task toy: there are no rows to grade"):
        grade(task("accuracy"), [], [])


def test_every_example_needs_its_prediction():
    with pytest.raises(ValueError, match="1 predictions of 2 examples"):
        grade(task("bleu"), [Example("", {}, "a")] * 2, ["a"])


def test_benchmark_average_weighs_tasks_alike():
    figures = {
        "mnli": {"matched": 0.8, "mismatched": 0.7},
        "rte": {"accuracy": 0.5},
        "stsb": {"pearson": -0.1},
    }
    assert benchmark_average(figures) == pytest.approx((0.75 + 0.5 - 0.1) / 3)
