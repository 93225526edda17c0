"""Commands that use finished runs."""

from __future__ import annotations

import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Literal

import tyro

from mpt.commands import Command, Work
from mpt.commands.options import OutOption, RunArgument, RunArguments
from mpt.commands.parse import read
from mpt.errors import UserError, require, tell
from mpt.serve.options import ServeOptions


def evaluate(rest: list[str]) -> Work:
    """Score a run's prompt on a labelled split."""

    def arguments(
        run: RunArgument,
        task: str = "",
        split: Literal["train", "validation", "test"] = "test",
        rows: int = 0,
        index: int = 0,
    ) -> Work:
        """Score a run's prompt on a labelled split.

        Args:
            run: run directory of `adapt` or `pretrain`, or hf://owner/name.
            task: task name or file; if left out, the task of the adaptation.
            split: the split to score.
            rows: number of examples to score; 0 takes all.
            index: index of the adaptation's prompt; there is one per seed.
        """
        from mpt.recipes.checks import check_prompt, check_scored
        from mpt.rundir.found import find_trained

        folder = find_trained(run)
        check_scored(folder, check_prompt(folder, task, index), split)

        def score() -> None:
            from mpt.inference.predict import evaluate
            from mpt.rundir.plain_json import json_text

            figures = evaluate(folder, task, split, rows, index)
            for name, value in figures.items():
                if value != value:
                    tell(f"{name} is undefined for the predictions on these rows")
            print(json_text(figures))

        return Work(score, f"evaluating {run}")

    return read(arguments, rest, "mpt evaluate")


def predict(rest: list[str]) -> Work:
    """Predict for lines of JSON or bare text from a file or standard input, as lines of JSON."""

    def arguments(
        run: RunArgument,
        input: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
        task: str = "",
        index: int = 0,
        strict: bool = False,
    ) -> Work:
        """Predict for lines of JSON or bare text, as lines of JSON.

        A blank line is answered by null, and one that cannot be read by an object with its error and number;
        the exit status is then 1.

        Args:
            run: run directory of `adapt` or `pretrain`, or hf://owner/name.
            input: .jsonl, .csv, .tsv or .parquet file, or any other with one input per line; if left out,
                standard input.
            task: task name or file; needed if the prompt has several tasks.
            index: index of the adaptation's prompt; there is one per seed.
            strict: write nothing unless every line can be read.
        """
        if input and not input.is_file():
            from mpt.system.paths import missing

            raise UserError(missing(input, "file"))
        from mpt.recipes.checks import check_prompt
        from mpt.rundir.found import find_trained

        folder = find_trained(run)
        check_prompt(folder, task, index)

        def answer() -> None:
            from mpt.data.files import ENCODING
            from mpt.inference.predict import CHUNK, open_run, predict, predict_file
            from mpt.system.said import say

            ready = open_run(folder, task, index)
            if isinstance(sys.stdin, TextIOWrapper):  # bytes that are not UTF-8 are reported with their line
                sys.stdin.reconfigure(encoding=ENCODING, errors="surrogateescape")
            typed = not input and sys.stdin.isatty()
            if typed:
                say("type an input and press Enter; press Ctrl-D after the last one")
            lines = predict(ready, sys.stdin, "standard input", strict, 1 if typed else CHUNK)
            for line in predict_file(ready, input, strict) if input else lines:
                print(line, flush=True)

        return Work(answer, f"reading {run}")

    return read(arguments, rest, "mpt predict")


def serve(rest: list[str]) -> Work:
    """Serve the prompts of runs over HTTP: completions, classification, health and metrics."""

    def arguments(
        run: RunArguments,
        options: Annotated[ServeOptions, tyro.conf.arg(name="")] = ServeOptions(),  # noqa: B008, it is frozen
    ) -> Work:
        """Serve the prompts of runs over HTTP; they must share one backbone.

        Args:
            run: run directories of `adapt`, `pretrain` or `import`, or hf://owner/name.
            options: the address to listen on, and the limits on requests.
        """
        if not run:
            raise UserError("serve: name at least one run directory")
        from mpt.rundir.found import find_trained

        folders = [find_trained(name) for name in run]
        for package in ("uvicorn", "starlette", "prometheus_client", "jinja2"):
            require(package, "serve", "serve")

        def answer() -> None:
            from mpt.serve.server import serve

            serve(folders, options)

        return Work(answer, f"serving {', '.join(run)}")

    return read(arguments, rest, "mpt serve")


def export(rest: list[str]) -> Work:
    """Write a run's prompts for other libraries: --format peft or embeddings."""

    def arguments(
        run: RunArgument,
        format: Literal["peft", "embeddings"] = "peft",
        out: OutOption = "",
    ) -> Work:
        """Write a run's prompts for other libraries.

        Args:
            run: run directory of `adapt`, `pretrain` or `import`.
            format: folders that `peft` can load, or plain arrays with a README.
            out: the folder to write; RUN/peft or RUN/embeddings if left out.
        """
        from mpt.interop.exportable import check_exportable, first_card
        from mpt.rundir.earlier import check_new
        from mpt.rundir.found import find_trained
        from mpt.system.paths import run_path

        folder = find_trained(run)
        if card := first_card(folder):
            check_exportable(folder, card, format)
        place = run_path(out) if out else folder / format
        check_new(place)

        def write() -> None:
            from mpt.interop.exporting import export_run

            print(f"Prompts in {export_run(folder, format, place)}")

        return Work(write, f"exporting {run}")

    return read(arguments, rest, "mpt export")


def import_(rest: list[str]) -> Work:
    """Make a run of a prompt that PEFT has trained: FOLDER --model NAME --task TASK."""

    def arguments(
        folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")],
        model: str,
        task: tuple[str, ...],
        out: OutOption = "runs/import",
        max_length: int = 128,
        bos: Literal["auto", "true", "false"] = "auto",
    ) -> Work:
        """Make a run of a prompt that PEFT has trained.

        Args:
            folder: folder that PEFT has saved, with adapter_config.json and adapter_model.safetensors.
            model: the backbone that the prompt was trained on.
            task: task name or file; for a multitask prompt, one for each of its tasks in their order.
            out: the run directory to write.
            max_length: maximum number of tokens of an input.
            bos: whether texts begin with the beginning-of-text token, after the prompt; "auto" follows the
                tokenizer's default, as in PEFT.
        """
        from mpt.catalog.library import find_tasks
        from mpt.loading.located import check_model
        from mpt.rundir.earlier import check_new
        from mpt.system.paths import run_path

        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; PEFT's save_pretrained writes one")
        find_tasks("import", task)
        check_model(model)
        check_new(run_path(out))

        def make() -> None:
            from mpt.interop.importing import import_adapter

            for remark in import_adapter(folder, model, task, run_path(out), max_length, bos):
                tell(remark)
            print(f"Prompt in {out}/prompts")

        return Work(make, f"importing {folder}")

    return read(arguments, rest, "mpt import")


COMMANDS: dict[str, Command] = {
    "evaluate": evaluate,
    "predict": predict,
    "serve": serve,
    "export": export,
    "import": import_,
}
