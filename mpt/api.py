"""The Python API of mpt: load a backbone once, and train, compare and use prompts on it.

    backbone = mpt.load_backbone("smollm2-135m")
    universal = mpt.pretrain(backbone, ["products", "vader_tweets"])
    prompt = mpt.adapt(universal, "movies", shots=16)
    prompt.predict(["The plot drags, but what a cast!"])

The functions do the same as the commands of the same names: they take the same options and write the same
run directories.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from mpt.catalog.from_python import Given, as_task, task_files
from mpt.catalog.library import is_packaged
from mpt.comparison.config import SHOWN, CompareConfig, check_methods
from mpt.config.continual import ContinualConfig
from mpt.config.options import MeshConfig, ModelConfig
from mpt.config.pretrain import PretrainConfig
from mpt.config.yaml_file import find_config, from_plain, load_config, merged, to_plain
from mpt.data.task import Task
from mpt.data.taskfile import from_anywhere
from mpt.errors import UserError
from mpt.inference.run_prompts import trained
from mpt.loading.hf import load_pretrained
from mpt.methods import AdaptConfig
from mpt.prompts.saved import load_prompt
from mpt.recipes.adapt import adapt_all
from mpt.recipes.checks import check_sources
from mpt.recipes.compare import compare as run_comparison
from mpt.recipes.continual import continual as learn_sequence
from mpt.recipes.pretrain import pretrain as run_pretraining
from mpt.run import ComparedRun, LoadedBackbone, Run, SequenceRun
from mpt.rundir.directory import RunDir, write_atomic
from mpt.rundir.earlier import left_over
from mpt.sharding import use_mesh
from mpt.system.paths import AnyPath, finished_run, is_remote, run_path

Config = TypeVar("Config", PretrainConfig, AdaptConfig, CompareConfig, ContinualConfig)


def load_backbone(
    name: str | Path = "smollm2-135m", mesh: MeshConfig | Mapping[str, int] | None = None, **options: Any
) -> LoadedBackbone:
    """Loads a frozen language model, for any number of runs.

    Args:
        name: a packaged model, a Hugging Face folder, a GGUF file, or owner/name on the hub.
        mesh: how several devices share the work; by default, each has the whole model.
        **options: the other fields of ``mpt.ModelConfig``: ``dtype``, ``weights``, ...

    Raises:
        UserError: there is no such model, or mpt does not support it.
    """
    config = from_plain(ModelConfig, to_plain({"name": name, **options}), "load_backbone")
    shared = from_plain(MeshConfig, to_plain(mesh or {}), "load_backbone", "mesh")
    with use_mesh(shared):
        return LoadedBackbone(config, shared, load_pretrained(**to_plain(config)))


def load(run: str | AnyPath, backbone: LoadedBackbone | None = None) -> Run:
    """Opens a finished run of `pretrain`, `adapt` or `import`.

    Args:
        run: its directory, or hf://owner/name.
        backbone: the run's backbone, if it is in memory already; else it is loaded.

    Raises:
        UserError: it is not a run, has not finished, or was trained on another backbone.
    """
    path = finished_run(run)
    config, name = trained(path)
    load_prompt(path, name)  # a missing prompt is reported before the backbone is loaded
    backbone = backbone or load_backbone(**to_plain(config))
    load_prompt(path, name, backbone.pretrained)
    return Run(path, backbone)


def pretrain(
    backbone: LoadedBackbone,
    tasks: Sequence[Given],
    out: str | AnyPath | None = None,
    config: PretrainConfig | str | Path | None = None,
    **options: Any,
) -> Run:
    """Trains teacher prompts for source tasks and distils them into a universal prompt.

    The same call again gives the finished run, or resumes where it was interrupted.

    Args:
        tasks: two or more: names of `mpt tasks`, task files, ``mpt.Task`` objects, or rows as
            ``mpt.make_task`` takes them. Tasks defined in Python are written into the run.
        out: the run directory; where left out, ``runs/pretrain-DIGEST``, whose name depends on
            everything that the run is made of.
        config: what ``options`` change: a config, or the name or file of one.
        **options: fields of ``mpt.PretrainConfig``, such as ``max_length=40, teachers={"steps": 20}``.

    Raises:
        UserError: an option is unknown, a row cannot be read, or ``out`` holds another run.
    """
    base = _config(PretrainConfig, "pretrain", config, options)
    _check_backbone("pretrain", backbone)
    base = replace(base, model=backbone.config, mesh=backbone.mesh)
    placed = _placed(_several(tasks))
    folder = _folder(out, "pretrain", base, placed)
    whole = replace(base, out=str(folder), tasks=tuple(each.name(folder) for each in placed))
    check_sources(whole)
    _write_tasks(whole, placed)
    return Run(run_pretraining(whole, backbone.pretrained), backbone)


def adapt(
    start: Run | LoadedBackbone,
    task: Given,
    out: str | AnyPath | None = None,
    config: AdaptConfig | str | Path | None = None,
    *,
    also: Sequence[Given] = (),
    **options: Any,
) -> Run:
    """Adapts a prompt to a new task from few examples, one prompt per seed.

    The same call again gives the finished run, or resumes where it was interrupted.

    Args:
        start: the run of a universal prompt; or a backbone, with which the option ``prompt`` names a run or
            a bank's prompt, is "" for a start from scratch, or is left out, as on the command line.
        task: a name of `mpt tasks`, a task file, a ``mpt.Task``, or rows as ``mpt.make_task`` takes
            them. A task defined in Python is written into the run.
        out: the run directory; where left out, ``runs/TASK-DIGEST``, whose name depends on everything
            that the run is made of.
        config: what ``options`` change: a config, or the name or file of one, such as "few_shot".
        also: further targets, trained together with the first.
        **options: fields of ``mpt.AdaptConfig``, such as ``shots=16, seeds=range(3)`` or
            ``train={"steps": 20}``.

    Raises:
        UserError: an option is unknown, a row cannot be read, or ``out`` holds another run.
    """
    backbone, given = (start.backbone, ("prompt",)) if isinstance(start, Run) else (start, ())
    base = _config(AdaptConfig, "adapt", config, options, given)
    _check_backbone("adapt", backbone, "a run or ")
    prompt = str(start.path) if isinstance(start, Run) else base.prompt
    base = replace(base, model=backbone.config, mesh=backbone.mesh, prompt=prompt)
    placed = _placed([task, *_several(also)])
    folder = _folder(out, placed[0].title, base, placed)
    first, *others = (each.name(folder) for each in placed)
    whole = replace(base, out=str(folder), task=first, also=tuple(others))
    _write_tasks(whole, placed)
    adapt_all(whole, backbone.pretrained)
    return Run(folder, backbone)


def compare(
    backbone: LoadedBackbone,
    tasks: Sequence[Given],
    targets: Sequence[Given],
    out: str | AnyPath | None = None,
    config: CompareConfig | str | Path | None = None,
    **options: Any,
) -> ComparedRun:
    """Pretrains on source tasks, then runs every method on every held-out task, in one table.

    The same call again gives the finished comparison, or resumes where it was interrupted.

    Args:
        tasks: source tasks, as ``pretrain`` takes them; none, where no method needs a universal prompt.
        targets: held-out tasks.
        out: the run directory; where left out, ``runs/compare-DIGEST``, whose name depends on everything
            that the run is made of.
        config: what ``options`` change: a config, or the name or file of one, such as "quickstart".
        **options: fields of ``mpt.CompareConfig``, such as ``methods=["hard prompt", "LoRA"], shots=[4, 16]``
            or ``adapt={"seeds": [0, 1]}``.

    Raises:
        UserError: an option is unknown, a row cannot be read, or ``out`` holds another run.
    """
    base = _config(CompareConfig, "compare", config, options)
    _check_backbone("compare", backbone)
    base = replace(base, pretrain=replace(base.pretrain, model=backbone.config, mesh=backbone.mesh))
    placed = _placed([*_several(tasks), *_several(targets)])
    folder = _folder(out, "compare", base, placed)
    names = tuple(each.name(folder) for each in placed)
    sources = replace(base.pretrain, tasks=names[: len(tasks)])
    whole = replace(base, out=str(folder), pretrain=sources, targets=names[len(tasks) :])
    check_methods(whole.methods)
    _write_tasks(whole, placed, free=SHOWN)
    return ComparedRun(run_comparison(whole, backbone.pretrained), whole)


def continual(
    start: Run | LoadedBackbone,
    tasks: Sequence[Given],
    out: str | AnyPath | None = None,
    config: ContinualConfig | str | Path | None = None,
    **options: Any,
) -> SequenceRun:
    """Learns tasks one after another by several methods, and measures what is retained and what is forgotten.

    The same call again gives the finished run, or resumes where it was interrupted.

    Args:
        start: the run of a universal prompt; or a backbone, with which the option ``prompt`` names one, or
            prompts start from scratch.
        tasks: the sequence, two tasks or more, as ``pretrain`` takes them.
        out: the run directory; where left out, ``runs/continual-DIGEST``, whose name depends on everything
            that the run is made of.
        config: what ``options`` change: a config, or the name or file of one.
        **options: fields of ``mpt.ContinualConfig``, such as ``methods=["factors", "naive"]``.

    Raises:
        UserError: an option is unknown, a row cannot be read, or ``out`` holds another run.
    """
    backbone, given = (start.backbone, ("prompt",)) if isinstance(start, Run) else (start, ())
    base = _config(ContinualConfig, "continual", config, options, given)
    _check_backbone("continual", backbone, "a run or ")
    prompt = str(start.path) if isinstance(start, Run) else base.prompt
    base = replace(base, model=backbone.config, mesh=backbone.mesh, prompt=prompt)
    placed = _placed(_several(tasks))
    folder = _folder(out, "continual", base, placed)
    whole = replace(base, out=str(folder), tasks=tuple(each.name(folder) for each in placed))
    _write_tasks(whole, placed)
    results = learn_sequence(whole, backbone.pretrained)
    runs = {str(method): Run(folder / method, backbone) for method in results.outcomes}
    return SequenceRun(folder, results, runs)


def _config(
    kind: type[Config],
    verb: str,
    base: Config | str | Path | None,
    options: Mapping[str, Any],
    given: Sequence[str] = (),
) -> Config:
    """The config of a function call, from the options by the names of its fields.

    Args:
        given: what the first argument sets, beside the model and its mesh.
    """
    for name in ("model", "mesh", *given):
        if name in options:
            raise UserError(f"{verb}: {name} is not an option here: the first argument sets it")
    if isinstance(base, (str, Path)):
        base = load_config(kind, find_config(str(base)))
    return from_plain(kind, merged(to_plain(base or kind()), to_plain(options)), verb)


class Placed(NamedTuple):
    """A task on its way into a config.

    Attributes:
        known: its name in a config; empty for a task defined in Python.
        title: its own name.
        files: of a task defined in Python: name -> content, to be written into the run.
    """

    known: str
    title: str
    files: Mapping[str, str]

    def name(self, run: AnyPath) -> str:
        """What the config of a run calls it."""
        return self.known or str(run.absolute() / "tasks" / f"{self.title}.yaml")


def _check_backbone(verb: str, backbone: object, also: str = "") -> None:
    """Refuses a first argument that is not a loaded backbone.

    Args:
        also: what else the function begins with.
    """
    if not isinstance(backbone, LoadedBackbone):
        loads = "mpt.load(RUN) or mpt.load_backbone(NAME)" if also else "mpt.load_backbone(NAME)"
        raise UserError(f"{verb}: the first argument is {also}a backbone, {loads}, not {backbone!r:.60}")


def _several(tasks: Sequence[Given]) -> Sequence[Given]:
    """The tasks of an argument that takes several."""
    if isinstance(tasks, (str, Path, Task)):
        raise UserError(f"tasks: give a list of tasks, not {str(tasks)!r}")
    return tasks


def _placed(given: Sequence[Given]) -> list[Placed]:
    """Every task as it was named, or with the files to write.

    Raises:
        UserError: two tasks have one name, or a row cannot be written.
    """
    placed = []
    for each in given:
        task = as_task(each)
        if isinstance(each, (str, Path)):
            placed.append(Placed(from_anywhere(str(each)), task.name, {}))
        elif is_packaged(task):
            placed.append(Placed(task.name, task.name, {}))
        else:
            placed.append(Placed("", task.name, task_files(task)))
    titles = [each.title for each in placed]
    if twice := [title for title in titles if titles.count(title) > 1]:
        raise UserError(f"two tasks are called '{twice[0]}'; give each a different name, see mpt.make_task")
    return placed


def _folder(out: str | AnyPath | None, title: str, config: Config, placed: Sequence[Placed]) -> AnyPath:
    """The run directory that was named, or one by what the run is made of."""
    if out is not None:
        folder = run_path(out)
        if is_remote(folder) and any(each.files for each in placed):
            raise UserError(f"{folder}: tasks defined in Python are written into the run; give a folder")
        return folder
    made_of = [to_plain(replace(config, out="")), placed]
    digest = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:8]
    return Path("runs", f"{re.sub('[^A-Za-z0-9_.-]+', '_', title)}-{digest}")


def _write_tasks(config: Config, placed: Sequence[Placed], free: Collection[str] = ()) -> None:
    """Writes the tasks defined in Python into their run, or finds them there.

    Args:
        free: options that may differ when a run is resumed.

    Raises:
        UserError: the run is another one, or was made of other rows.
    """
    files = {name: content for each in placed for name, content in each.files.items()}
    if not files:
        return
    run = RunDir.open(config.out, config, free)
    for name, content in files.items():
        file = run.path / "tasks" / name
        if file.exists() and file.read_text(encoding="utf-8") == content:
            continue
        if file.exists() and left_over(run.path) is None:
            raise UserError(
                f"{file} has other rows than were given; give another out, or remove {config.out}"
            )
        write_atomic(file, content)
