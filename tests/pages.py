"""The code blocks of the documentation's pages, and a small world in which their commands run.

They run word for word, in a folder with a tiny model and with few steps: programs of the same names stand
before the real ones and add options, and what a page leaves to the reader is filled in.
"""

from __future__ import annotations

import csv
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gguf_toy import write_gguf
from toys import PATIENCE, ROOT, USERS_CACHE, toy_rows

from mpt.loading.packaged import PACKAGED
from mpt.system.assets import ASSETS

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

# How blocks begin that are no commands: what a folder holds, a drawing.
DRAWINGS = ("runs/quickstart/pretrain/\n", "runs/continual/\n", " mpt/catalog, mpt/data ")

# How blocks begin that are not run here, and why.
NOT_RUN = {
    "JAX_COORDINATOR_ADDRESS=": "it takes several hosts; tests/sharding/test_hosts.py runs it",
    "from vllm import": "vLLM takes a GPU; the page says that it was not run",
    "import base64, io": "it asks a server of vLLM",
    "import torch\nfrom safetensors.torch import": "tests/interop/test_embeddings.py runs it",
}
# Commands that other tests or CI run: here they do nothing.
ELSEWHERE = ("-m pip install", "-m pytest", "-m sphinx")

# What a page leaves to the reader, and what it stands for here.
FILLED_IN = (
    (r"\bCONFIG\b", "tiny.yaml"),
    (r"gs://bucket", "bucket"),
    (r"--processes 4\b", "--processes 2"),
    (r", \.\.\.\]", ", *MORE_ROWS]"),
)

PRELUDE = """\
from page_options import make_small
from toys import toy_rows
make_small()
WORDS = {"yes": "good", "no": "bad"}
MORE_ROWS = [(row["text"], WORDS[row["label"]]) for row in toy_rows("tone", 200)]
"""
# The packaged model has one of its own.
CHAT_TEMPLATE = "{% for turn in messages %}{{ turn.role }}: {{ turn.content }}<eos>{% endfor %}assistant: "


class Block(NamedTuple):
    """A fenced block of a page, with the line where it begins."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def is_python(self) -> bool:
        return self.language == "python"

    @property
    def is_shell(self) -> bool:
        """Whether it holds commands: all that is neither marked as something else nor a known drawing."""
        return self.language in ("", "bash", "sh", "shell", "console") and not self.text.startswith(DRAWINGS)

    @property
    def why_not_run(self) -> str:
        return next((why for start, why in NOT_RUN.items() if self.text.startswith(start)), "")

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    fenced = re.finditer(r"^```(\S*)[^\n]*\n(.*?)^```$", text, re.M | re.S)
    return [Block(page, text.count("\n", 0, each.start()) + 1, each[1], each[2]) for each in fenced]


def filled_in(text: str) -> str:
    """A block's text with what a page leaves to the reader."""
    for pattern, value in FILLED_IN:
        text = re.sub(pattern, value, text)
    return text


def commands(page: Path) -> Iterator[list[str]]:
    """The mpt commands of a page's blocks, as lists of words after `mpt`; one after `launch` is one too."""
    for block in blocks(page):
        if block.is_shell and not block.why_not_run:
            for line in filled_in(re.sub(r"\\\n", "", block.text)).splitlines():
                words = shlex.split(line, comments=True)
                for part in _parts(words):
                    if part[:1] == ["mpt"]:
                        yield part[1:]


def _parts(words: list[str]) -> Iterator[list[str]]:
    """The commands of a line of the shell, without what they read."""
    for index, word in enumerate(words):
        if word in ("&&", "|", "<", "--"):
            yield words[:index]
            after = words[index + 1 :]
            yield from _parts(["mpt", *after] if word == "--" else [] if word == "<" else after)
            return
    yield words


def write_files(folder: Path) -> None:
    """The reader's own files: the task file is the README's."""
    (task,) = (block.text for block in blocks(PAGES[0]) if block.language == "yaml")
    stars = {"yes": "5", "no": "1"}
    with (folder / "reviews.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "stars"])
        rows.writerows((row["text"], stars[row["label"]]) for row in toy_rows("tone", 200))
    (folder / "reviews.yaml").write_text(task)
    (folder / "my_task.yaml").write_text(task + "name: my_task\n")
    (folder / "lines.txt").write_text("so great\nit is awful\n")
    (folder / "tiny.yaml").write_text("tasks: [reviews.yaml, my_task.yaml]\nmax_length: 24\n")


class World:
    """A folder with the files that the pages speak of, and programs that make their commands small."""

    def __init__(self, folder: Path):
        self.folder, self.port, self._done = folder / "work", _free_port(), set[Path]()
        self.folder.mkdir()
        self._servers: list[subprocess.Popen] = []
        programs, cache = folder / "bin", folder / "cache"
        programs.mkdir()
        _write_cache(cache)
        paths = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
        self.environment = os.environ | {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "MPT_CACHE": str(cache),
            "WANDB_MODE": "offline",
        }
        self._write_programs(programs)
        write_files(self.folder)

    def _write_programs(self, folder: Path) -> None:
        mpt = "import sys; from page_options import with_options; from mpt.cli import main; "
        mpt += "sys.exit(main(with_options(sys.argv[1:])))"
        curl, cases = shutil.which("curl"), " | ".join(f'"{start}"*' for start in ELSEWHERE)
        programs = {
            "mpt": f"exec {sys.executable} -c '{mpt}' \"$@\"",
            "python": f'case "$*" in {cases}) exit 0;; esac\nexec {sys.executable} "$@"',
            "curl": f'exec {curl} --fail-with-body "${{@//localhost:8000/localhost:{self.port}}}"',
            "jupyter": "exit 0",  # tests/test_tour.py runs the notebook
        }
        for name, program in programs.items():
            (folder / name).write_text(f"#!/bin/bash\n{program}\n")
            (folder / name).chmod(0o755)

    def run(self, page: Path) -> None:
        """Runs a page's blocks from top to bottom, unless they have run."""
        if page in self._done:
            return
        self._done.add(page)
        program = PRELUDE
        for block in blocks(page):
            if block.why_not_run:
                continue
            if block.is_python:
                program += self._filled_in(block).replace("localhost:8000", f"localhost:{self.port}")
            elif block.is_shell:
                self._shell(block)
        if any(block.is_python and not block.why_not_run for block in blocks(page)):
            self._finish([sys.executable, "-c", program], f"the Python of {page.name}")

    def _filled_in(self, block: Block) -> str:
        text = filled_in(block.text)
        named = sorted((self.folder / "prompts").glob("products-*.safetensors"))
        return re.sub(r"products-[0-9a-f]{8}\b", named[0].stem, text) if named else text

    def _shell(self, block: Block) -> None:
        """Runs a block's commands one by one, since a prompt's name is known once the bank has it."""
        for command in re.sub(r"\\\n", "", block.text).splitlines():
            command = self._filled_in(block._replace(text=command))
            if command.startswith("mpt serve "):
                self._serve(command)
            elif command.strip():
                self._finish(["bash", "-eo", "pipefail", "-c", command], f"{block}: {command}")

    def _serve(self, command: str) -> None:
        command = f"exec {command} --port {self.port} --max-batch 2 --max-tokens 16"
        server = subprocess.Popen(["bash", "-c", command], cwd=self.folder, env=self.environment)
        self._servers.append(server)
        end = time.monotonic() + PATIENCE
        while not _is_ready(self.port):
            assert server.poll() is None and time.monotonic() < end, f"no answer from: {command}"
            time.sleep(0.5)

    def _finish(self, command: list[str], what: str) -> None:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
        )
        assert done.returncode == 0, f"{what}\n{done.stdout}\n{done.stderr}"

    def close(self) -> None:
        for server in self._servers:
            server.terminate()
            server.wait()


def _write_cache(folder: Path) -> None:
    """The user's data, if it is there already, with a tiny model in place of the packaged one."""
    (folder / "assets").mkdir(parents=True)
    ((package, member),) = PACKAGED["smollm2-135m"].parts
    for asset in ASSETS.values():
        name = f"{asset.package}-{asset.version}"
        if asset.package == package:
            file = folder / "assets" / name / member
            file.parent.mkdir(parents=True)
            write_gguf(file, {"llama.context_length": 2048, "tokenizer.chat_template": CHAT_TEMPLATE})
        elif (USERS_CACHE / "assets" / name).is_dir():
            (folder / "assets" / name).symlink_to(USERS_CACHE / "assets" / name)
    (USERS_CACHE / "downloads").mkdir(parents=True, exist_ok=True)
    (folder / "downloads").symlink_to(USERS_CACHE / "downloads")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://localhost:{port}/health/ready", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False
