"""Commands that use finished runs."""

from __future__ import annotations

import json
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from mpt.commands import Command
from mpt.commands.options import OutOption, RunArgument, RunArguments
from mpt.errors import UserError, install
from mpt.serve.options import ServeOptions


def evaluate(rest: list[str]) -> None:
    """Score a run's prompt on a labelled split."""
    from mpt.inference.predict import evaluate
    from mpt.system.paths import finished_run

    def arguments(
        run: RunArgument,
        task: str = "",
        split: str = "test",
        rows: int = 0,
        index: int = 0,
    ) -> dict[str, Any]:
        """Score a run's prompt on a labelled split.

        Args:
            run: run directory of `adapt` or `pretrain`, or hf://owner/name.
            task: task name or file; if left out, the task of the adaptation.
            split: train, validation or test.
            rows: number of examples to score; 0 takes all.
            index: index of the adaptation's prompt; there is one per seed.
        """
        return evaluate(finished_run(run), task, split, rows, index)

    figures = tyro.cli(arguments, args=rest, prog="mpt evaluate")
    # A figure that is not defined, such as the correlation with a constant, is null: JSON has no NaN.
    print(json.dumps({name: None if value != value else value for name, value in figures.items()}))


def predict(rest: list[str]) -> None:
    """Predict for lines of JSON or bare text from a file or standard input, as lines of JSON."""
    from mpt.data.files import ENCODING
    from mpt.inference.predict import open_run, predict, predict_file
    from mpt.system.paths import finished_run

    def arguments(
        run: RunArgument,
        input: Path | None = None,
        task: str = "",
        index: int = 0,
    ) -> None:
        """Predict for lines of JSON or bare text, as lines of JSON; null answers a blank line.

        Args:
            run: run directory of `adapt` or `pretrain`, or hf://owner/name.
            input: .jsonl, .csv, .tsv or .parquet file, or any other with one input per line; if left out,
                standard input.
            task: task name or file; needed if the prompt has several tasks.
            index: index of the adaptation's prompt; there is one per seed.
        """
        if input and not input.is_file():
            raise UserError(f"{input}: no such file")
        ready = open_run(finished_run(run), task, index)
        if isinstance(sys.stdin, TextIOWrapper):  # bytes that are not UTF-8 are told of with their line
            sys.stdin.reconfigure(encoding=ENCODING, errors="surrogateescape")
        for line in predict_file(ready, input) if input else predict(ready, sys.stdin, "standard input"):
            print(line, flush=True)

    tyro.cli(arguments, args=rest, prog="mpt predict")


def serve(rest: list[str]) -> None:
    """Answer over HTTP for the prompts of runs: completions, classes, health and metrics."""

    def arguments(
        run: RunArguments,
        options: Annotated[ServeOptions, tyro.conf.arg(name="")] = ServeOptions(),  # noqa: B008, it is frozen
    ) -> None:
        """Answer over HTTP for the prompts of runs, which share one backbone.

        Args:
            run: run directories of `adapt`, `pretrain` or `import`, or hf://owner/name.
            options: the address to listen on, and the limits on requests.
        """
        if not run:
            raise UserError("name at least one run directory")
        from mpt.system.paths import finished_run

        try:
            from mpt.serve.server import serve
        except ModuleNotFoundError as error:
            raise UserError(f"{error.name} is not installed: {install('serve')}") from None
        serve([finished_run(name) for name in run], options)

    tyro.cli(arguments, args=rest, prog="mpt serve")


def export(rest: list[str]) -> None:
    """Write a run's prompts for other libraries: --format peft or embeddings."""
    from mpt.interop.exporting import export_run
    from mpt.system.paths import run_path

    def arguments(
        run: RunArgument,
        format: Literal["peft", "embeddings"] = "peft",
        out: OutOption = "",
    ) -> Any:
        """Write a run's prompts for other libraries.

        Args:
            run: run directory of `adapt`, `pretrain` or `import`.
            format: folders that `peft` can load, or plain arrays with a README.
            out: the folder to write; RUN/peft or RUN/embeddings if left out.
        """
        return export_run(run_path(run), format, run_path(out) if out else None)

    print(f"Prompts in {tyro.cli(arguments, args=rest, prog='mpt export')}")


def import_(rest: list[str]) -> None:
    """Make a run of a prompt that PEFT has trained: FOLDER --model NAME --task TASK."""
    from mpt.interop.importing import import_adapter
    from mpt.system.paths import run_path

    def arguments(
        folder: Annotated[Path, tyro.conf.Positional],
        model: str,
        task: tuple[str, ...],
        out: OutOption = "runs/import",
        max_length: int = 128,
    ) -> None:
        """Make a run of a prompt that PEFT has trained.

        Args:
            folder: folder that PEFT has saved, with adapter_config.json and adapter_model.safetensors.
            model: the backbone that the prompt was trained on.
            task: task name or file; for a multitask prompt, one for each of its tasks in their order.
            out: the run directory to write.
            max_length: maximum number of tokens of an input.
        """
        for remark in import_adapter(folder, model, task, run_path(out), max_length):
            print(f"mpt: {remark}", file=sys.stderr)
        print(f"Prompt in {out}/prompts")

    tyro.cli(arguments, args=rest, prog="mpt import")


COMMANDS: dict[str, Command] = {
    "evaluate": evaluate,
    "predict": predict,
    "serve": serve,
    "export": export,
    "import": import_,
}
