"""No damaged file of any format that mpt reads ends in a traceback: it is read, or refused in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from gguf_toy import write_gguf
from golden import tiny
from mutations import mutated
from toys import toy_rows, write_spiece, write_task

from mpt.config.pretrain import PretrainConfig
from mpt.config.yaml_file import dump_config, load_config
from mpt.data.files import read_file
from mpt.data.records import Fault
from mpt.data.taskfile import parse_task
from mpt.errors import UserError
from mpt.loading.hf import load_pretrained, open_folder

ROWS = toy_rows("tone", 6)


def _folder(folder: Path) -> Path:
    return tiny.save("llama", folder)


def _index(folder: Path) -> Path:
    tiny.save("llama", folder)
    names = dict.fromkeys(tiny.shapes("llama"), "model.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    return folder


def _write(name: str, content: str) -> Callable[[Path], Path]:
    return lambda folder: folder / name if (folder / name).write_text(content) else folder


def _table(folder: Path) -> Path:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), folder / "rows.parquet")
    return folder / "rows.parquet"


def _all_rows(file: Path) -> None:
    for row in islice(read_file(file), 1000):
        if isinstance(row, Fault):
            raise row


CSV = "text,label\n" + "".join(f'"{row["text"]}",{row["label"]}\n' for row in ROWS)
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS)

# What is written into an empty folder, the file that is damaged, and how what is there is read.
FORMATS: dict[str, tuple[Callable[[Path], Path], str, Callable[[Path], object]]] = {
    "config.json": (_folder, "config.json", lambda folder: load_pretrained(str(folder))),
    "tokenizer.json": (_folder, "tokenizer.json", open_folder),
    "tokenizer_config.json": (_folder, "tokenizer_config.json", open_folder),
    "sentencepiece": (write_spiece, "spiece.model", open_folder),
    "safetensors": (_folder, "model.safetensors", lambda folder: load_pretrained(str(folder))),
    "index": (_index, "model.safetensors.index.json", open_folder),
    "gguf": (lambda folder: write_gguf(folder / "toy.gguf"), "", lambda file: load_pretrained(str(file))),
    "task": (lambda folder: write_task(folder, "tone", ROWS), "", parse_task),
    "config": (
        _write("run.yaml", dump_config(PretrainConfig())),
        "",
        lambda file: load_config(PretrainConfig, file),
    ),
    "jsonl": (_write("rows.jsonl", JSONL), "", _all_rows),
    "csv": (_write("rows.csv", CSV), "", _all_rows),
    "tsv": (_write("rows.tsv", CSV.replace(",", "\t")), "", _all_rows),
    "parquet": (_table, "", _all_rows),
}


def _read_damaged(kind: str, folder: Path, count: int) -> None:
    make, name, read = FORMATS[kind]
    place = make(folder)
    file = place / name if name else place
    whole = file.read_bytes()
    read(place)
    refused = 0
    for number, content in enumerate(mutated(whole, count)):
        file.write_bytes(content)
        try:
            read(place)
        except UserError as error:
            refused += 1
            assert "\n" not in str(error), str(error)
        except BaseException as error:
            kept = shutil.copy(file, folder.parent / f"{kind}-{number}")
            raise AssertionError(f"{kind}, damaged copy {number} (kept as {kept}): {error!r}") from error
    assert refused > count // 10  # else it was not damaged


@pytest.mark.parametrize("kind", FORMATS)
def test_a_damaged_file_is_read_or_refused_in_one_line(kind, tmp_path):
    (tmp_path / "made").mkdir()
    _read_damaged(kind, tmp_path / "made", 24)


@pytest.mark.full
@pytest.mark.parametrize("kind", FORMATS)
def test_five_hundred_damaged_files_are_read_or_refused_in_one_line(kind, tmp_path):
    (tmp_path / "made").mkdir()
    _read_damaged(kind, tmp_path / "made", 500)
