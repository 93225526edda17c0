"""TensorFlow Datasets through random access, with TensorFlow out of the way."""

import subprocess
import sys

import pytest

from mpt.data.sources import Tfds
from mpt.errors import UserError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A data folder with the data set "toy", made here."""
    import tensorflow_datasets as tfds

    class Toy(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = tmp_path_factory.mktemp("package")  # this module is in no package

        def _info(self):
            features = {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(names=["no", "yes"])}
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples("train", 5), "test": self._generate_examples("test", 3)}

        def _generate_examples(self, split, count):
            for i in range(count):
                yield i, {"text": f"{split} {i} é", "label": i % 2}

    folder = tmp_path_factory.mktemp("tfds")
    Toy(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


@pytest.fixture(autouse=True)
def data_folder(prepared, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))  # read by processes that a test starts
    monkeypatch.setattr("tensorflow_datasets.core.constants.DATA_DIR", str(prepared))


@pytest.fixture
def toy():
    return Tfds("toy", {"train": "train", "test": "test"})


def test_rows_are_plain_text_and_label_names(toy):
    rows = {record.columns["text"]: record.columns["label"] for record in toy.load("train")}
    assert rows == {f"train {i} é": ("no", "yes")[i % 2] for i in range(5)}


def test_a_row_may_stand_for_several_records():
    def twice_or_not(row):
        return [] if row["label"] == "no" else [row, {**row, "text": "again"}]

    found = [record.columns["text"] for record in Tfds("toy", {"test": "test"}, twice_or_not).load("test")]
    assert found == ["test 1 é", "again"]


def test_prepared_rows_are_counted_as_tfds_does(toy):
    assert toy.is_local
    assert {split: toy.count(split) for split in toy.splits} == {"train": 5, "test": 3}
    assert Tfds("toy", {"train": "train[1:]"}).count("train") == 4
    assert not Tfds("nothing_like_it", {"train": "train"}).is_local


def test_unknown_split_is_named(toy):
    with pytest.raises(UserError, match="TFDS toy has no validation split; it has train, test"):
        list(toy.load("validation"))


def test_split_that_goes_by_its_own_name_is_asked_for():
    guessed = Tfds("toy", {split: split for split in ("train", "validation", "test")})
    assert [guessed.has(split) for split in ("train", "validation", "test")] == [True, False, True]
    assert Tfds("toy", {"validation": "trian"}).has("validation")  # what is named and wrong is told of


def test_unknown_data_set_is_named(monkeypatch):
    monkeypatch.setattr("mpt.data.sources.is_online", lambda: True)
    with pytest.raises(UserError, match=r"cannot load TFDS nothing_like_it \(train\): "):
        list(Tfds("nothing_like_it", {"train": "train"}).load("train"))


def test_tensorflow_is_not_loaded():
    program = (
        "import sys\n"
        "from mpt.data.sources import Tfds\n"
        "assert len(list(Tfds('toy', {'test': 'test'}).load('test'))) == 3\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
