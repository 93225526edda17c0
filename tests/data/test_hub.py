"""Data sets of the `datasets` library, from a folder made here."""

import sys
from types import SimpleNamespace

import pytest

from mpt.catalog.library import read_task
from mpt.data.hub import Hub, Saved
from mpt.data.splits import SPLITS
from mpt.errors import UserError

datasets = pytest.importorskip("datasets")


def table(name: str, count: int):
    features = {
        "text": datasets.Value("string"),
        "picture": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
        "label": datasets.ClassLabel(names=["no", "yes"]),
    }
    rows = {
        "text": [f"{name} {i} é" for i in range(count)],
        "picture": [{"bytes": b"\xff", "path": None}] * count,  # no picture at all
        "label": [(0, 1, -1)[i % 3] for i in range(count)],
    }
    made = datasets.Dataset.from_dict(rows, datasets.Features(features))
    return made.cast_column("picture", datasets.Image())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    whole = datasets.DatasetDict({"train": table("train", 4), "dev": table("dev", 3)})
    whole.save_to_disk(folder / "splits")
    table("whole", 60).save_to_disk(folder / "whole")
    return folder


def rows(source, split) -> list[tuple]:
    return [(record.columns["text"], record.columns["label"]) for record in source.load(split)]


def test_rows_are_plain_text_and_label_names(folder):
    expected = [("train 0 é", "no"), ("train 1 é", "yes"), ("train 2 é", -1), ("train 3 é", "no")]
    assert rows(Saved(str(folder / "splits")), "train") == expected


def test_splits_may_have_other_names(folder):
    source = Saved(str(folder / "splits"), {"validation": "dev"})
    assert [text for text, _ in rows(source, "validation")] == ["dev 0 é", "dev 1 é", "dev 2 é"]
    with pytest.raises(UserError, match=r"saved data set .*splits has no train split; it has validation"):
        rows(source, "train")
    with pytest.raises(UserError, match="splits has no split 'test'; it has train, dev"):
        rows(Saved(str(folder / "splits"), {"test": "test"}), "test")


@pytest.mark.parametrize("splits", [{}, {"all": "all"}])
def test_folder_without_splits_is_split_by_hash(folder, splits):
    source = Saved(str(folder / "whole"), splits)
    found = [text for split in SPLITS for text, _ in rows(source, split)]
    assert sorted(found) == sorted(f"whole {i} é" for i in range(60))


def test_task_file_names_a_folder_beside_it(folder):
    (folder / "mine.yaml").write_text(
        'source: {saved: splits, validation: dev}\ntemplate: "{text}"\nverbalizer: {no: bad, yes: good}\n'
    )
    task = read_task(folder / "mine.yaml")
    assert next(task.examples("validation")).target == "bad"


def test_folder_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"cannot load saved data set .*gone: ") as error:
        rows(Saved(str(tmp_path / "gone")), "train")
    assert "\n" not in str(error.value)


def test_hub_without_a_network(monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    source = Hub("owner/nothing_like_it", {"train": "train"}, "small")
    with pytest.raises(
        UserError, match=r"cannot load hub data set owner/nothing_like_it \(small\) \(train\): "
    ):
        rows(source, "train")


def test_hub_is_asked_for_the_split_and_for_no_code(monkeypatch):
    asked = []

    def load_dataset(*names, **options):
        asked.append((names, options))
        return table("hub", 2)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert rows(Hub("glue", {"train": "train[:2]"}, "sst2"), "train") == [
        ("hub 0 é", "no"),
        ("hub 1 é", "yes"),
    ]
    assert asked == [(("glue", "sst2"), {"split": "train[:2]"})]


def test_split_that_goes_by_its_own_name_is_asked_for(monkeypatch):
    def load_dataset_builder(*names):
        return SimpleNamespace(info=SimpleNamespace(splits={"train": 0, "dev": 0}))

    monkeypatch.setattr(datasets, "load_dataset_builder", load_dataset_builder)
    guessed = Hub("glue", {split: split for split in SPLITS})
    assert [guessed.has(split) for split in SPLITS] == [True, False, False]
    assert Hub("glue", {"validation": "dve"}).has("validation")  # what is named and wrong is told of


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"needs the package datasets: .*'\.\[datasets\]'"):
        rows(Hub("glue", {"train": "train"}), "train")
