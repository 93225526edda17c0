"""Toy tasks, a tiny tokenizer, and `mpt` run from a test."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from golden import tiny
from safetensors.numpy import load_file

from mpt import cli
from mpt.system.assets import cache_dir

ROOT = Path(__file__).parents[1]
USERS_CACHE = cache_dir()
PATIENCE = 480  # seconds until a process that does not get on is a failure

WORDS = {"tone": ("great", "awful"), "colour": ("red", "blue"), "mood": ("glad", "sad")}


def toy_rows(name: str, count: int = 120) -> list[dict[str, str]]:
    """Rows whose label is which of two words stands in the text.

    They are of 17 or 18 tokens: whichever are drawn, 2, 4, 8, 16 or 32 of them fill arrays of one size, and
    so a step is compiled once.
    """
    rng = np.random.default_rng(0)
    short = 6 if name == "mood" else 8  # its words are three tokens each, not one
    rows = []
    for i in range(count):
        filler = " ".join(rng.choice(["a", "to", "we", "it", "so"], 9))[: rng.integers(short, short + 2)]
        rows.append({"text": f"{filler} {WORDS[name][i % 2]} {100 + i}", "label": ("yes", "no")[i % 2]})
    return rows


def write_task(folder: Path, name: str, rows=None, **keys) -> Path:
    """A task file beside its JSONL file; ``keys`` go into the task file."""
    lines = toy_rows(name) if rows is None else rows
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    task = {
        "source": f"{name}.jsonl",
        "template": "{text}\nSo:",
        "verbalizer": {"yes": "good", "no": "bad"},
        "instruction": "Is it good or bad?\n",
    }
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(task | keys))  # JSON is YAML
    return path


def stage(steps: int = 12, save_every: int = 2) -> dict:
    """A training stage of a config."""
    return {"steps": steps, "batch_size": 8, "save_every": save_every}


def tiny_tokenizer():
    """Byte-pair merges learnt from the toy tasks' own words, so that these are single tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    whole = Tokenizer(models.BPE())
    whole.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    whole.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<eos>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    whole.train_from_iterator([" good bad red blue great awful word"] * 10, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=whole, eos_token="<eos>", pad_token="<pad>")


def write_spiece(folder: Path) -> Path:
    """A tiny T5 whose tokenizer is a sentencepiece file alone, as T5 1.1 comes."""
    from sentencepiece import SentencePieceTrainer

    tiny.save("t5-1.0", folder)
    for file in folder.glob("*token*"):
        file.unlink()
    numbers = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
    with (folder / "spiece.model").open("wb") as file:
        SentencePieceTrainer.train(
            sentence_iterator=iter([row["text"] for row in toy_rows("tone")]),
            model_writer=file,
            vocab_size=40,
            hard_vocab_limit=False,
            normalization_rule_name="identity",
            minloglevel=2,
            **numbers,
        )
    return folder


def beginning_tokenizer():
    """The tiny one, which begins every text with its second token, as those of Gemma and Llama do."""
    from tokenizers import processors

    tokenizer = tiny_tokenizer()
    tokenizer.bos_token = tokenizer.pad_token
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<pad> $A", pair="<pad> $A <pad> $B", special_tokens=[("<pad>", 1)]
    )
    return tokenizer


def write_beginning(folder: Path) -> Path:
    """The model of ``write_llama`` with a tokenizer that begins every text with a token."""
    return tiny.write(folder, "toy-llama", beginning_tokenizer(), tiny.weights("toy-llama"))


def write_llama(folder: Path) -> Path:
    """A Hugging Face folder: a random Llama of two layers and a byte-level tokenizer of 320 words."""
    return tiny.write(folder, "toy-llama", tiny_tokenizer(), tiny.weights("toy-llama"))


def write_t5(folder: Path) -> Path:
    """The same, of a T5."""
    return tiny.write(folder, "toy-t5", tiny_tokenizer(), tiny.weights("toy-t5"))


def start_mpt(
    *arguments: str, stdin=subprocess.DEVNULL, cwd=None, after: Sequence[str] = ()
) -> subprocess.Popen:
    """`mpt` as a process of its own, which the command ``after`` may start."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [*after, sys.executable, "-m", "mpt.cli", *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
    )


def finish(process: subprocess.Popen) -> str:
    """Waits for a process that must succeed, and returns what it prints."""
    try:
        output, error = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 0, error
    return output


def steps_done(run, stage: str) -> int:
    """The last step that a stage has written down."""
    with contextlib.suppress(FileNotFoundError, IndexError):
        return json.loads((run / stage / "metrics.jsonl").read_text().split("\n")[-2])["step"]
    return 0


def stop_at(process, run, stage: str, step: int, how: signal.Signals) -> tuple[int, str]:
    """Sends a signal once ``stage`` has reached ``step``; returns the exit status and standard error."""
    end = time.monotonic() + PATIENCE
    while process.poll() is None and steps_done(run, stage) < step and time.monotonic() < end:
        time.sleep(0.002)
    assert process.poll() is None, f"ended before step {step} of {stage}: {process.communicate()}"
    process.send_signal(how)
    _, error = process.communicate(timeout=PATIENCE)
    return process.returncode, error


def as_undisturbed(run: Path, whole: Path) -> None:
    """Compares a pretraining's prompts and steps to those of the fixture ``universal``."""
    for name in ("teachers", "universal"):
        found, expected = (load_file(folder / "prompts" / f"{name}.safetensors") for folder in (run, whole))
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, rtol=1e-4, atol=1e-4 * np.abs(value).max())
        lines = (run / name / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == list(range(1, 13))


def refused(capsys, *arguments: str) -> str:
    """Runs a command that must fail as a user's mistake does, and returns its one line."""
    capsys.readouterr()
    assert cli.main(list(arguments)) == 2
    error = capsys.readouterr().err
    assert error.startswith("mpt: "), error
    assert error.count("\n") == 1, error
    return error


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder`` with its content."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def until(true: Callable[[], bool]) -> None:
    """Waits for something that happens soon."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() < began + PATIENCE
        time.sleep(0.01)
