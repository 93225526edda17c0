"""The directory of a run: its config, its metrics and its results."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog  # type: ignore[attr-defined]
from tensorboardX.summary import scalar

from mpt.config.yaml_file import dump_config, to_plain
from mpt.rundir.checkpoint import Checkpoints
from mpt.rundir.earlier import Digests, check_new, earlier
from mpt.rundir.tracking import Trackers, check_installed
from mpt.system.paths import AnyPath, is_remote, replace_atomic, run_path, run_title, upload
from mpt.system.processes import is_primary, one_writes, wait_for_all

FLUSH_EVERY = 30.0  # seconds between writes of the events to the disk, which are slow


class RunDir:
    """The folder of one run.

    Layout: config.yaml, STAGE/metrics.jsonl with TensorBoard events in the same folder, STAGE/checkpoints/,
    prompts/, predictions/ and report.html.

    Args:
        path: the folder.
        trackers: receive its metrics.
        name: what the user knows it by, where the folder is a temporary one.
    """

    def __init__(self, path: AnyPath, trackers: Trackers | None = None, name: str = ""):
        self.path, self._trackers = path, trackers
        self.name, self.title = name or str(path), name or run_title(path)
        self._config: Any = None  # what is still to be written
        self._digests: Digests | None = None
        self._left_over: Sequence[AnyPath] = ()

    @classmethod
    def open(
        cls, path: str | AnyPath, config: Any, free: Collection[str] = (), digests: Digests | None = None
    ) -> RunDir:
        """Starts a run in a folder, or resumes the run that is there; see ``look``."""
        run = cls.look(path, config, free, digests)
        run.begin()
        return run

    @classmethod
    def look(
        cls, path: str | AnyPath, config: Any, free: Collection[str] = (), digests: Digests | None = None
    ) -> RunDir:
        """The run that is in a folder, or is to begin there; nothing is written before ``begin``.

        Args:
            path: the run directory.
            config: the options of the run.
            free: keys that may differ when a run is resumed; their latest values are saved.
            digests: of the run's tasks, which are kept beside the config.

        Raises:
            UserError: the folder holds a run with another config or of other data, or something else; or a
                tracker is not installed.
        """
        check_installed(config.track)
        found = earlier(path, config, free, digests)
        folder, has_trackers = run_path(path), config.track and is_primary()
        run = cls(folder, Trackers(config.track, folder, to_plain(config)) if has_trackers else None)
        run._config, run._left_over = None if found.same else config, found.left_over
        run._digests = digests
        return run

    def begin(self) -> None:
        """Writes the config, where it is not there yet; it comes before all else that a run writes."""
        wait_for_all()  # all processes must have looked before one writes
        with one_writes() as mine:
            for file in self._left_over if mine else ():
                file.unlink(missing_ok=True)
        if self._config is not None:
            write_atomic(self.path / "config.yaml", dump_config(self._config))
            if self._digests:
                write_atomic(self.path / "data.json", json.dumps(self._digests, indent=2) + "\n")
        self._config, self._digests, self._left_over = None, None, ()

    def metrics(self, stage: str) -> Metrics:
        """The metrics of a training stage."""
        return Metrics(self.path / stage, self._trackers)

    def conclude(self, figures: Mapping[str, float]) -> None:
        """Sends the final figures of the run to its trackers."""
        if self._trackers:
            self._trackers.conclude(figures)

    def checkpoints(self, stage: str) -> Checkpoints:
        """The checkpoints of a training stage."""
        return Checkpoints(self.path / stage / "checkpoints")


class Metrics:
    """The metrics of a training stage, for metrics.jsonl, TensorBoard and the run's trackers.

    It is a context manager; ``rewind`` must be called before it is entered.
    """

    def __init__(self, folder: AnyPath, trackers: Trackers | None = None):
        self._folder, self._file, self._trackers = folder, folder / "metrics.jsonl", trackers
        self._lines: list[str] = []  # all lines, for stores that cannot append to a file
        self._events: EventsWriter | None = None
        self._flushed = 0.0

    def rewind(self, step: int) -> None:
        """Drops the metrics after ``step``, before a run resumes from there."""
        self._folder.mkdir(parents=True, exist_ok=True)
        earlier = [line for line in self.read() if line["step"] <= step] if step else []
        self._lines = [json.dumps(line) + "\n" for line in earlier]
        write_atomic(self._file, "".join(self._lines))
        if not is_primary():
            return
        # Not tensorboardX's SummaryWriter: on a full disk its thread dies, and its callers hang.
        self._events = EventsWriter(str(self._folder / "events"))
        restart = SessionLog(status=SessionLog.SessionStatus.START)
        self._events.write_event(Event(wall_time=time.time(), step=step + 1, session_log=restart))

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Adds the figures of a step, except those that are not finite, which JSON cannot represent."""
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
        """Makes all written lines readable; this must come before a checkpoint of the same step."""
        if is_remote(self._file) and is_primary():
            upload(self._file, "".join(self._lines).encode())

    def read(self) -> list[dict[str, float]]:
        """Reads all lines, except a last one that a crash has left incomplete."""
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


def write_atomic(path: AnyPath, content: str | bytes) -> None:
    """Replaces a file atomically: whatever happens, it has either its old content or all of the new one.

    Only the primary process writes, and all processes wait for it.
    """
    with one_writes() as is_writer:
        if is_writer:
            replace_atomic(path, content)


@contextmanager
def atomic_folder(path: AnyPath) -> Iterator[Path]:
    """A context that gives an empty folder to fill, which becomes ``path`` if the block succeeds.

    If the block fails, nothing is left. In a bucket, the files are written one after another.

    Raises:
        UserError: ``path`` exists already.
    """
    check_new(path)
    if is_remote(path):
        with TemporaryDirectory() as scratch:
            yield Path(scratch)
            for file in sorted(file for file in Path(scratch).rglob("*") if file.is_file()):
                upload(path / file.relative_to(scratch), file.read_bytes())
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
        filled = Path(scratch) / path.name  # not the scratch folder itself, which other users may not read
        filled.mkdir()
        yield filled
        os.replace(filled, path)
