"""A run directory: what was run, how it went, and what came out."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog  # type: ignore[attr-defined]
from tensorboardX.summary import scalar

from mpt.config.yaml_file import differences, dump_config, load_config, to_plain
from mpt.errors import UserError
from mpt.rundir.checkpoint import Checkpoints
from mpt.rundir.tracking import Trackers, check_installed
from mpt.system.paths import AnyPath, is_remote, replace_whole, run_path, upload
from mpt.system.processes import is_primary, one_writes, wait_for_all

FLUSH_EVERY = 30.0  # seconds between writes of the events to the disk, which takes its time


class RunDir:
    """The folder of one run.

    Layout: config.yaml, STAGE/metrics.jsonl with TensorBoard events beside it, STAGE/checkpoints/,
    prompts/, predictions/ and report.html.
    """

    def __init__(self, path: AnyPath, trackers: Trackers | None = None):
        self.path, self._trackers = path, trackers

    @classmethod
    def open(cls, path: str | AnyPath, config: Any, free: Collection[str] = ()) -> RunDir:
        """Starts a run here, or goes on with the same one.

        Args:
            free: options that may change from one time to the next; the last ones are kept.

        Raises:
            UserError: another config has been run here, the folder holds something else, or a tracker is
                asked for that is not installed.
        """
        check_installed(config.track)
        folder, tracked = run_path(path), config.track and is_primary()
        run = cls(folder, Trackers(config.track, folder, to_plain(config)) if tracked else None)
        saved = run.path / "config.yaml"
        if saved.exists():
            # Through the dataclass: an option that a later version has added stands at its default.
            before, now = to_plain(load_config(type(config), saved)), to_plain(config)
            fixed = [{name: plain[name] for name in plain if name not in free} for plain in (before, now)]
            if changed := differences(*map(_anywhere, fixed)):
                raise UserError(
                    f"{run.path} holds a run of another config ({'; '.join(changed[:3])}); "
                    "give another folder with --out, or remove this one"
                )
            if any(before[name] != now[name] for name in free):
                wait_for_all()
                write_whole(saved, dump_config(config))
        elif run.path.exists() and not (run.path.is_dir() and _is_empty(run.path)):
            raise UserError(f"{run.path} exists and is no run of mpt; give another folder with --out")
        else:
            wait_for_all()  # before one of several processes writes what the others look for
            write_whole(saved, dump_config(config))
        return run

    def metrics(self, stage: str) -> Metrics:
        return Metrics(self.path / stage, self._trackers)

    def conclude(self, figures: Mapping[str, float]) -> None:
        """Tells the trackers what came out."""
        if self._trackers:
            self._trackers.conclude(figures)

    def checkpoints(self, stage: str) -> Checkpoints:
        return Checkpoints(self.path / stage / "checkpoints")


def _anywhere(plain: Any) -> Any:
    """A config without the meshes: they say where a run is computed, not what it is."""
    if not isinstance(plain, dict):
        return plain
    return {name: _anywhere(value) for name, value in plain.items() if name != "mesh"}


def _is_empty(folder: AnyPath) -> bool:
    """But for what a run leaves that is killed as it writes its config."""
    return all(path.name.startswith(".config.yaml.") for path in folder.iterdir())


class Metrics:
    """The figures of a training stage: one JSON object per line, TensorBoard events, and what tracks the run.

    A context manager, once ``rewind`` has been called.
    """

    def __init__(self, folder: AnyPath, trackers: Trackers | None = None):
        self._folder, self._file, self._trackers = folder, folder / "metrics.jsonl", trackers
        self._lines: list[str] = []  # all of them, where a file cannot grow
        self._events: EventsWriter | None = None
        self._flushed = 0.0

    def rewind(self, step: int) -> None:
        """Forgets what was written after ``step``, before a run goes on from there."""
        self._folder.mkdir(parents=True, exist_ok=True)
        kept = [line for line in self.read() if line["step"] <= step] if step else []
        self._lines = [json.dumps(line) + "\n" for line in kept]
        write_whole(self._file, "".join(self._lines))
        if not is_primary():
            return
        # Not tensorboardX's SummaryWriter: its thread dies on a full disk, and who feeds it hangs.
        self._events = EventsWriter(str(self._folder / "events"))
        forget = SessionLog(status=SessionLog.SessionStatus.START)
        self._events.write_event(Event(wall_time=time.time(), step=step + 1, session_log=forget))

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Adds a line; figures that are not finite, which JSON has no word for, are left out."""
        if not is_primary():
            return
        finite = {name: value for name, value in figures.items() if math.isfinite(value)}
        line = json.dumps({"step": step, **finite}) + "\n"
        if is_remote(self._file):
            self._lines.append(line)
        else:
            with self._file.open("a") as file:
                file.write(line)
        assert self._events is not None, "rewind() comes before write()"
        for name, value in finite.items():
            event = Event(wall_time=time.time(), step=step, summary=scalar(name, value))
            self._events.write_event(event)
        if time.monotonic() > self._flushed + FLUSH_EVERY:
            self._events.flush()
            self.flush()
            self._flushed = time.monotonic()
        if self._trackers:
            self._trackers.log(self._folder.name, step, finite)

    def flush(self) -> None:
        """What was written can be read from here on: a checkpoint must not be ahead of it."""
        if is_remote(self._file) and is_primary():
            upload(self._file, "".join(self._lines).encode())

    def read(self) -> list[dict[str, float]]:
        """All lines; a last one that a crash left unfinished is dropped."""
        if not self._file.exists():
            return []
        lines = self._file.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def __enter__(self) -> Metrics:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_) -> None:
        if self._events is not None:
            self._events.close()
            self.flush()
        if kind and self._trackers:
            self._trackers.stop()


def write_whole(path: AnyPath, content: str | bytes) -> None:
    """Writes a file that is whole, or as it was: under a temporary name, where that is needed.

    Of several processes the first one writes, and all find it written.
    """
    with one_writes() as mine:
        if mine:
            replace_whole(path, content)


@contextmanager
def whole_folder(path: AnyPath) -> Iterator[Path]:
    """A folder to fill; it takes the name ``path`` when the block has ended well, or leaves nothing.

    To a bucket its files go one after another.

    Raises:
        UserError: something is there already.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path} exists already; give another folder with --out, or remove this one")
    if is_remote(path):
        with TemporaryDirectory() as scratch:
            yield Path(scratch)
            for file in sorted(found for found in Path(scratch).rglob("*") if found.is_file()):
                upload(path / file.relative_to(scratch), file.read_bytes())
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
        filled = Path(scratch) / path.name  # the scratch folder itself is closed to others
        filled.mkdir()
        yield filled
        os.replace(filled, path)
