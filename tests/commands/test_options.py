"""A mistyped name is answered with what may be meant, before anything slow is imported."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from toys import ROOT, refused, toy_rows, write_task

from mpt import cli
from mpt.commands.details import details, everything
from mpt.commands.help import overview
from mpt.commands.options import RunArgument, check_names, names
from mpt.commands.train import Order, PlanOrder
from mpt.comparison.config import CompareConfig
from mpt.config.continual import ContinualConfig
from mpt.config.methods import AdaptConfig
from mpt.config.pretrain import PretrainConfig
from mpt.errors import UserError
from mpt.serve.options import ServeOptions

KINDS = (PretrainConfig, AdaptConfig, CompareConfig, ContinualConfig, ServeOptions)


def hint(typed: str, kind: Callable) -> str:
    with pytest.raises(UserError) as told:
        check_names([typed], list(names(kind)), "mpt it")
    return str(told.value).partition("; ")[2]


@pytest.mark.parametrize("kind", KINDS)
def test_every_option_with_a_letter_too_much_is_recognised(kind):
    for name in names(kind):
        typed = f"{name}z"
        assert f"{name} " in f"{hint(typed, kind).replace(',', ' ').replace('?', ' ')} ", typed


@pytest.mark.parametrize("kind", KINDS)
def test_every_option_is_taken_as_people_write_it(kind):
    known = list(names(kind))
    for name in known:
        check_names([name, f"{name}=3", f"--{name[2:].replace('-', '_')}"], known, "mpt it")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--stepz", "--train.steps, --search.steps or --spot.steps"),
        ("--train.step", "--train.steps"),
        ("--tasks", "--task"),
        ("--learning-rate", "--train.learning-rate"),
        ("--bach_size=3", "--train.batch-size"),
        ("--model", "--model.name, --model.dtype, --model.weights or --model.remat"),
        ("--lora.rnak", "--lora.rank"),
    ],
)
def test_what_newcomers_type_is_understood(typed, meant):
    assert hint(typed, AdaptConfig) == f"did you mean {meant}?"


def test_what_is_like_no_option_is_told_where_they_are_listed():
    assert hint("--xyzzy", AdaptConfig) == "`mpt it --help` lists them"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("tasks shwo", "no command 'mpt tasks shwo'; did you mean 'show'?"),
        ("bank serch", "no command 'mpt bank serch'; did you mean 'search'?"),
        ("continual --tasks fuor_1", "task 'fuor_1' is unknown; did you mean 'four_1'?"),
        ("adapt few_shot", "adapt: --task is required"),
        ("adapt --task movies --model.name smolm2-135m", "did you mean 'smollm2-135m'?"),
        ("adapt --task xyzzy", "task 'xyzzy' is unknown; `mpt tasks` lists them"),
        (
            "adapt --task movies --prompt gone",
            "gone: no such folder; `mpt pretrain` and `mpt adapt` create",
        ),
        ("predict gone", "gone: no such folder; `mpt pretrain` and `mpt adapt` create"),
        ("adapt --task mpt/tasks/offline.py", "mpt/tasks/offline.py is not a task file: write one, such as"),
        ("adapt --task movies --prompt testz", "testz: no such folder; did you mean tests?"),
        (
            "compare --targets movies --methods LoAR",
            "compare: methods: no method 'LoAR'; did you mean 'LoRA'?",
        ),
        ("compare --targets movies --reference LoAR", "no method 'LoAR'; did you mean 'LoRA'?"),
        (
            "compare --targets movies --pretrain.tasks produts",
            "task 'produts' is unknown; did you mean 'products'?",
        ),
        ("tasks check READMEE.yaml", "READMEE.yaml: no such file"),
        ("predict tests --input READMEE.md", "READMEE.md: no such file; did you mean README.md?"),
        ("import gone --model x --task movies", "gone: no such folder; PEFT's save_pretrained writes one"),
        ("export gone --formt peft", "export: no option --formt; did you mean --format?"),
        ("predict --run gone", "predict: no option --run; leave the name out: mpt predict RUN"),
        ("compare --config a.yaml", "compare: no option --config; leave the name out: mpt compare CONFIG"),
        ("tasks show movies --split tst", "tasks show: --split is one of 'train', 'validation', 'test', not"),
        ("adapt help", "config 'help': no such file or packaged config; known: chat, continual"),
        ("plan --tasks movies bbc --topology v9:4x4", "--topology 'v9:4x4': not known; write v5e, v5p, v6e"),
        ("bank list --bank testz", "testz: no such folder; did you mean tests?"),
        ("bank search movies", "bank: no such folder; `mpt bank add RUN_DIR --bank bank` makes it"),
        ("evaluate", "evaluate: RUN_DIR is missing; see `mpt evaluate --help`"),
        ("tasks check", "tasks check: TASK is missing; see `mpt tasks check --help`"),
        ("import tests", "import: --model and --task are missing; see `mpt import --help`"),
        ("evaluate a b", "evaluate: no option takes 'b'"),
        ("adapt few_shot movies", "adapt few_shot: no option takes 'movies'"),
        ("evaluate a --rows few", "evaluate: --rows: 'few' is not a whole number"),
        ("serve a --wait-ms long", "serve: --wait-ms: 'long' is not a number"),
        ("adapt --task movies --train.steps many", "adapt: --train.steps: 'many' is not a whole number"),
        (
            "evaluate a --split tst",
            "evaluate: --split is one of 'train', 'validation', 'test', not 'tst'; see",
        ),
    ],
)
def test_what_is_missing_is_named(capsys, arguments, message):
    assert message in refused(capsys, *arguments.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("evaluate", "evaluate: RUN_DIR is missing; see `mpt evaluate --help`"),
        ("evaluate a b", "evaluate: no option takes 'b'; write an option's name before it; see `mpt"),
        ("evaluate a --rows few", "evaluate: --rows: 'few' is not a whole number; see `mpt evaluate --help`"),
        ("export a --format onnx", "export: --format is one of 'peft', 'embeddings', not 'onnx'; see"),
    ],
)
def test_what_cannot_be_parsed_is_one_plain_line_on_a_terminal_too(capsys, monkeypatch, arguments, message):
    """There tyro colours what it says."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert refused(capsys, *arguments.split()).startswith(f"mpt: {message}")


@pytest.mark.parametrize(
    ("command", "option"), [("adapt", "--task"), ("compare", "--targets"), ("pretrain", "--tasks")]
)
def test_a_task_file_in_a_configs_place_is_told_from_a_config(capsys, tmp_path, command, option):
    file = write_task(tmp_path, "tone")
    error = refused(capsys, command, str(file))
    assert error == f"mpt: {command}: {file} is a task file, not a config; give it as {option} {file}\n"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent", "gone.jsonl: no such file"),
        ("template", "template.jsonl:1: no column 'txt', which task template needs; it has text, label"),
        ("label", "label.jsonl:1: no column 'lable'"),
        ("classes", "classes.jsonl:1: label 'yes' is not in the verbalizer"),
        ("split", "gone.jsonl: no such file"),
        ("empty", "task empty: the train split of"),
        ("saved", "cannot load saved data set"),
        ("key", "key.yaml:1: unknown key 'tmeplate'; did you mean 'template'?"),
    ],
)
def test_data_that_does_not_fit_its_task_is_told_of_at_once(capsys, tmp_path, name, message):
    file = write_data(tmp_path, name)
    for place in PLACES if name == "split" else (*PLACES, *SOURCES):
        told = refused(capsys, *place.format(task=file, out=tmp_path / "run").split())
        assert message in told, place
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        "pretrain --tasks {split} movies --model.name ./gone",
        "compare --targets movies --pretrain.tasks bbc {absent} --methods LoRA --pretrain.model.name ./gone",
    ],
)
def test_what_a_run_does_not_read_need_not_be_there(capsys, tmp_path, arguments):
    """Neither a source task's test split, nor source tasks that no method starts from."""
    files = {name: write_data(tmp_path, name) for name in ("split", "absent")}
    told = refused(capsys, *arguments.format(**files).split(), "--out", str(tmp_path / "run"))
    assert "model './gone': no such file" in told


@pytest.mark.parametrize("order", [Order, PlanOrder])
@pytest.mark.parametrize("kind", KINDS[:4])
def test_short_help_fits_a_terminal_and_names_all(kind, order):
    lines = overview(kind, order, "it", "Does it.").splitlines()
    assert len(lines) <= 50
    assert max(map(len, lines)) <= 80
    shown = {line.split()[0] for line in lines if line.startswith("  --")}
    own = {name for name in names(kind) if "." not in name and not name.startswith("--no-")}
    assert own | {f"{name.partition('.')[0]}.*" for name in names(kind) if "." in name} <= shown
    assert "--config" not in shown
    assert all(len(line.split()) > 1 for line in lines if line.startswith("  --"))


# Task files whose data does not fit them.
DATA = {
    "absent": {"source": "gone.jsonl"},
    "template": {"template": "{txt}"},
    "label": {"label": "lable"},
    "classes": {"verbalizer": {"a": "good", "b": "bad"}},
    "split": {"source": {"train": "split.jsonl", "test": "gone.jsonl"}},
    "empty": {},
    "saved": {"source": {"saved": "gone"}},
    "key": {"tmeplate": "{text}"},
    "stored": {"source": "gs://some/rows.jsonl"},
    "hub": {"source": {"hub": "owner/name"}},
}
# Where a command reads a task: all that a target needs, and less of a source task.
PLACES = (
    "adapt few_shot --task {task} --out {out}",
    "adapt few_shot --task movies --also {task} --out {out}",
    "adapt few_shot --task {task} --out {out} --dry-run",
    "compare --targets {task} --out {out}",
    "compare --targets movies {task} --out {out} --dry-run",
    "continual --tasks movies {task} --out {out}",
    "plan few_shot --task {task}",
)
SOURCES = (
    "pretrain --tasks movies {task} --out {out}",
    "pretrain --tasks movies {task} --out {out} --dry-run",
    "compare --targets movies --pretrain.tasks bbc {task} --out {out}",
    "compare --targets movies --pretrain.tasks bbc products --tune.tasks {task} --tune.factors 1 --out {out}",
    "plan --tasks bbc {task}",
    "plan quickstart --targets movies --pretrain.tasks bbc {task}",
)


def write_data(folder: Path, name: str) -> Path:
    """A task file of ``DATA``, beside its rows."""
    return write_task(folder, name, [] if name == "empty" else toy_rows("tone", 8), **DATA[name])


# Mistakes, and what must not have been imported when they are answered.
MISTAKES = {
    "options": ("adapt --stepz 3", "pretrain --step 3", "compare few_shot --sead", "continual --shot 1"),
    "names": (
        "adapt --task xyzzy",
        "adapt --task movies --model.name ./gone",
        "adapt few_shot",
        "pretrain",
        "compare",
        "compare --targets movies --methods LoAR",
        "compare --targets movies --methods 'copy the input'",
        "compare --targets movies --methods 'copy the input' --dry-run",
        "adapt --task movies --baseline 'copy the input'",
        "plan",
        "plan --tries 2",
        "compare --targets movies --pretrain.tasks produts",
        "compare --targets movies --tune.tasks movies --tune.factors 1",
        "compare --targets movies --pretrain.tasks products bbc --tune.tasks bbc --tune.factors 1 3",
        "pretrain --tasks movies bbc --out {trained}",
        "adapt --task movies --out {trained}",
        "adapt --task movies --out {trained} --dry-run",
        "compare --targets movies --out {trained}",
        "continual --tasks movies bbc --out {trained}",
        "evaluate {trained} --task moveis",
        "evaluate {trained} --rows -1",
        "evaluate {trained} --split tset",
        "predict {trained} --task moveis",
        "predict {trained} --input gone.txt",
        "predict {compared}/adapted --task bbc",
        "evaluate {compared}/adapted --index 2",
        "predict {compared}/adapted --index -1",
        *(
            f"{command} {{compared}}"
            for command in ("predict", "evaluate", "export", "serve", "inspect", "bank add")
        ),
        "export {trained} --out {trained}",
        "import {trained} --model x --task movies --out {trained}",
        "predict gone",
        "serve gone",
        *(
            place.format(task=f"{{compared}}/{name}.yaml", out="{compared}/new")
            for name in ("absent", "label", "saved")
            for place in (*PLACES, *SOURCES)
        ),
        "evaluate {compared}/several",
        "evaluate {compared}/several --task {compared}/absent.yaml",
        "plan --tasks movies bbc --topology v9:4x4",
        "continual --tasks movies bbc --methods factors",
        "continual --tasks movies bbc --methods factors --dry-run",
        "bank add {trained} --bank README.md",
        "bank search movies --bank {banked} --model smollm2",
        "tasks show movies --model smollm2",
        "tasks check movies --model ./gone",
        "import {banked} --model smollm2 --task movies --out {compared}/new",
    ),
}
# What needs a package of an extra, none of which is installed.
MISTAKES["extras"] = (
    "adapt --task movies --prompt gs://some/run",
    "adapt --task movies --prompt s3://some/bank/prompt",
    "adapt --task movies --out gs://some/run",
    "adapt --task {compared}/stored.yaml",
    "adapt --task {compared}/hub.yaml",
    "adapt --task movies --track wandb",
    "evaluate gs://some/run",
    "bank list --bank gs://some/bank",
    "bank search movies --bank s3://some/bank",
    "serve {compared}/adapted",
    "plan --tasks movies bbc --topology v5e:4x4",
)
EXTRAS = ("gcsfs", "s3fs", "datasets", "wandb", "uvicorn", "libtpu")
SLOW = {
    "options": ("jax", "numpy", "transformers", "rich", "ruamel", "fsspec"),
    "extras": ("jax", "flax", "transformers", "sklearn", "matplotlib"),
    "names": ("jax", "flax", "transformers", "tensorflow_datasets", "sklearn", "scipy", "matplotlib"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_answered_before_anything_slow_is_imported(kind, tmp_path):
    """Of a folder too that holds another run, which has been trained."""
    (tmp_path / "config.yaml").write_text(f"out: {tmp_path}\nseed: 7\n")
    (tmp_path / "results.json").write_text("[]")
    made = tmp_path / "compared" / "movies" / "LoRA" / "prompts" / "adapted.safetensors"
    made.parent.mkdir(parents=True)
    made.touch()
    (tmp_path / "compared" / "config.yaml").write_text("out: x\n")
    (tmp_path / "bank").mkdir()
    (tmp_path / "bank" / "some.safetensors").touch()
    (tmp_path / "compared" / "results.json").write_text("{}")
    for name in DATA:
        write_data(tmp_path / "compared", name)
    for name, prompt, tasks in (
        ("several", "universal", ["movies", "bbc"]),
        ("adapted", "adapted", ["movies", "movies"]),
    ):
        prompts = tmp_path / "compared" / name / "prompts"
        prompts.mkdir(parents=True)
        (prompts.parent / "config.yaml").write_text("out: x\n")
        (prompts / f"{prompt}.safetensors").touch()
        card = {"templates": dict.fromkeys(tasks, ""), "prompts": tasks}
        (prompts / f"{prompt}.json").write_text(json.dumps(card))
    mistakes = [
        mistake.format(trained=tmp_path, compared=tmp_path / "compared", banked=tmp_path / "bank")
        for mistake in MISTAKES[kind]
    ]
    program = (
        f"import shlex, sys; sys.modules |= dict.fromkeys({EXTRAS if kind == 'extras' else ()})\n"
        "from mpt.cli import main\n"
        "def status(arguments):\n"
        "    try: return main(shlex.split(arguments))\n"
        "    except SystemExit as end: return end.code\n"
        f"for arguments in {mistakes}: assert status(arguments) == 2, arguments\n"
        f"slow = {set(SLOW[kind])} & sys.modules.keys(); assert not slow, slow"
    )
    process = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    if kind == "extras":
        assert process.stderr.count("`python -m pip install -e '.[") == len(mistakes), process.stderr


@pytest.mark.parametrize("arguments", ["--help", "adapt --help", "adapt --help-all", "tasks"])
def test_a_reader_who_has_gone_away_leaves_no_trace(arguments):
    process = subprocess.Popen(
        [sys.executable, "-m", "mpt.cli", *arguments.split()],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() in (0, 1)  # rich ends with 1


WITHIN = [f"bank {name}" for name in ("add", "list", "search")] + [
    f"tasks {name}" for name in ("show", "check")
]


@pytest.mark.parametrize("option", ["--help", "--help-all"])
@pytest.mark.parametrize("command", ["", *cli.commands(), *WITHIN])
def test_help_fits_a_terminal(capsys, command, option):
    """Without boxes, in which arguments that have no name stand apart."""
    with contextlib.suppress(SystemExit):
        assert cli.main([*command.split(), option]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert 0 < len(lines) < (50 if option == "--help" else 800)
    assert max(map(len, lines)) <= 80
    assert not {*"│╭─"} & {*"".join(lines)}


def test_help_tells_of_arguments_options_and_what_they_are_left_out():
    def command(file: RunArgument, name: str, rows: int = 0, of: tuple[str, ...] = (), strict: bool = False):
        """Does it.

        Args:
            file: what is read.
            name: what it is called.
            rows: how many; 0 takes all.
            of: of what.
            strict: all or nothing.
        """

    assert details(command, "mpt it").splitlines() == [
        "usage: mpt it RUN_DIR --name NAME [OPTIONS]",
        "",
        "Does it.",
        "",
        "  RUN_DIR      what is read.",
        "  --name NAME  what it is called.",
        "  --rows N     how many; 0 takes all. (default: 0)",
        "  --of OF ...  of what.",
        "  --strict     all or nothing.",
    ]


@pytest.mark.parametrize("kind", KINDS[:4])
def test_all_help_explains_every_option_with_the_value_that_it_has(kind):
    """By its full name, which can be typed, below what is said of its section."""
    text = everything(Order(replace(kind(), out="some where")), "it", "Does it.")
    shown = [line.split()[0] for line in text.splitlines() if line.startswith("  --")]
    known = [name for name in names(kind) if not name.rpartition(".")[2].startswith(("no-", "--no-"))]
    assert sorted(shown) == sorted(["--dry-run", "--tflops", *known])
    assert not re.search(r"^  --\S+( \S+)?\n(  --|\n)", text, re.M), "an option of which nothing is said"
    assert "(default: some where)" in " ".join(text.split())
    for name, section in asdict(kind()).items():
        if isinstance(section, dict):
            assert f"\n\n{name}: " in text


# What follows upon each is enough for it to start; RUN is a run directory.
HEAVY = {
    "pretrain": "--tasks movies bbc",
    "adapt": "--task movies",
    "compare": "--targets movies",
    "continual": "--tasks movies bbc",
    "plan": "--tasks movies bbc",
    "evaluate": "RUN",
    "predict": "RUN",
    "serve": "RUN",
    "export": "RUN",
    "import": "RUN --model some/x --task movies",
    "inspect": "RUN",
    "report": "RUN",
    "bank add": "RUN",
    "bank search": "movies --bank RUN/prompts",
    "tasks show": "movies --model some/x",
}


def test_every_slow_command_says_what_it_does_before_jax_is_imported(tmp_path):
    (tmp_path / "config.yaml").write_text("out: here\n")
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "universal.safetensors").touch()
    lines = [f"{name} {rest.replace('RUN', str(tmp_path))}".split() for name, rest in HEAVY.items()]
    program = (
        "import contextlib, io, sys\n"
        "from mpt import cli\n"
        "class Jax(Exception): pass\n"
        "class Watch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'jax': raise Jax\n"
        "sys.meta_path.insert(0, Watch())\n"
        f"for line in {lines}:\n"
        "    said = io.StringIO()\n"
        "    with contextlib.redirect_stderr(said):\n"
        "        try: cli._obey(line, alone=True)\n"
        "        except Jax: pass\n"
        "        else: raise AssertionError(line)\n"
        "    assert said.getvalue().endswith('; loading the libraries\\n'), (line, said.getvalue())\n"
        "    assert said.getvalue().count('\\n') == 1, (line, said.getvalue())\n"
    )
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    process = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
