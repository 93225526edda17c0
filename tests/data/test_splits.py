"""One whole becomes splits that do not move, without duplicates, in little memory."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.data.records import Fault, Record
from mpt.data.splits import ALL, SPLITS, Columns, Seen, digest_of, split_by_hash, splits_by_hash

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ROWS = st.lists(st.fixed_dictionaries({"text": TEXTS, "label": TEXTS}), max_size=20)


def records(rows) -> list[Record]:
    return [Record(f"row {i}", row) for i, row in enumerate(rows)]


def places(rows, **keys) -> dict[str, str]:
    """Each text's split; a text in two would fail."""
    found = [
        (record.columns["text"], split)
        for split in SPLITS
        for record in split_by_hash(records(rows), split, "label", **keys)
    ]
    assert len(dict(found)) == len(found)
    return dict(found)


@given(ROWS)
def test_splits_share_out_the_distinct_texts(rows):
    assert places(rows).keys() == {row["text"] for row in rows}


@given(ROWS, ROWS, st.randoms())
def test_split_of_a_text_stays_when_rows_come_and_move(rows, more, random):
    shuffled = [*rows, *more]
    random.shuffle(shuffled)
    assert places(rows).items() <= places(shuffled).items()


@given(TEXTS, TEXTS, TEXTS)
def test_split_does_not_depend_on_the_label(text, label, other):
    assert places([{"text": text, "label": label}]) == places([{"text": text, "label": other}])


@pytest.mark.parametrize(
    ("group", "expected"), [("", "vtvrtrrtrrrrtrrttrtvtrrt"), ("group", "vvvvrrrrrrrrttttrrrrrrrr")]
)
def test_rows_stand_where_they_always_did(group, expected):
    """Published prompts were trained on these splits: they may never change."""
    rows = [{"text": f"text {i} é", "group": str(i // 4), "label": i % 2} for i in range(24)]
    letters = {"train": "r", "validation": "v", "test": "t"}
    assert "".join(letters[split] for split in places(rows, group=group).values()) == "".join(
        sorted(expected, key="rvt".index)
    )
    assert "".join(letters[split] for split, _ in splits_by_hash(records(rows), "label", group)) == expected


def test_group_stays_together():
    rows = [{"text": str(i), "group": str(i // 10), "label": "x"} for i in range(300)]
    found = places(rows, group="group")
    assert len({(row["group"], found[row["text"]]) for row in rows}) == 30
    assert set(found.values()) == set(SPLITS)


def test_shares_of_the_splits():
    found = list(places([{"text": str(i), "label": "x"} for i in range(2000)]).values())
    assert [found.count(split) / 2000 for split in SPLITS] == pytest.approx([0.7, 0.1, 0.2], abs=0.03)


def test_first_of_equal_texts_is_kept():
    rows = records([{"text": "a", "label": label} for label in "xyz"])
    assert [place is None for place, _ in splits_by_hash(rows, "label")] == [False, True, True]


@pytest.mark.parametrize("split", SPLITS)
def test_faults_are_in_no_split_and_in_sight_of_all(split):
    fault = Fault("not JSON", "a.jsonl:1", "not JSON")
    assert list(split_by_hash([fault], split, "label")) == [fault]


def test_rows_are_taken_as_they_are_asked_for():
    taken = []

    def rows():
        for record in records([{"text": str(i), "label": ""} for i in range(1000)]):
            taken.append(record)
            yield record

    found = split_by_hash(rows(), "train", "label")
    assert not taken
    next(found)
    assert len(taken) < 20


def test_seen_says_where_a_text_was_met():
    with Seen() as seen:
        assert [seen.earlier(digest_of("a"), split) for split in ("train", "test")] == [None, "train"]
        assert seen.earlier(digest_of("b"), "test") is None


def test_seen_holds_little_of_many_texts():
    tracemalloc.start()
    with Seen() as seen:
        news = sum(seen.earlier(digest_of(i % 20_000)) is None for i in range(25_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert news == 20_000
    assert peak < 200_000  # bytes; a set of digests would take ten times that


SPACES = st.sampled_from(["", " ", "\t ", "\u3000"])
READ = Columns(("text",))


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), SPACES, SPACES, st.integers()), max_size=30))
def test_text_is_in_one_split_whatever_stands_beside_it(rows):
    """A number, a date or white space makes no text a new one."""
    table = records(
        [{"text": f"{left}{text}{right}", "id": id_, "label": "x"} for text, left, right, id_ in rows]
    )
    found = [
        record.columns["text"].strip()
        for split in SPLITS
        for record in split_by_hash(table, split, "label", columns=READ)
    ]
    assert sorted(found) == sorted({text for text, *_ in rows})


def test_columns_that_nobody_reads_move_no_row():
    rows = [{"text": f"text {i} é", "label": i % 2} for i in range(300)]
    more = [row | {"id": number, "at": {"day": number}} for number, row in enumerate(rows)]
    plain, beside = (
        [split for split, _ in splits_by_hash(records(table), "label", columns=columns)]
        for table, columns in ((rows, ALL), (more, READ))
    )
    assert plain == beside


def test_numbers_and_their_texts_are_one():
    rows = [{"text": value, "label": "x"} for value in (1, "1", 1.5, "1.5")]
    places = [split is None for split, _ in splits_by_hash(records(rows), "label", columns=READ)]
    assert places == [False, True, False, True]


def test_row_without_a_group_is_read_all_the_same():
    rows = records([{"text": "a", "label": "x"}])
    assert [row for split in SPLITS for row in split_by_hash(rows, split, "label", "group")] == rows
