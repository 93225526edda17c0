"""Measures mpt beside PEFT on this machine's GPU, the most important first, until the time is over.

    bash benchmarks/gpu/run.sh [--results FILE] [--seconds 440] [--datasheet TFLOP/s]
    bash benchmarks/gpu/run.sh --tiny

Each program runs by itself, a process for each model. A case that fails, or takes too long, is a line with
its error. What FILE holds already is not measured again.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import given
from cases import BATCH, REAL, Scale, Setup, Step, tiny
from duel import Ended, Worker, machine
from results import Results, table

LOADING, LEAST = 120.0, 5.0  # seconds that a model may take to load; with less left, no case is begun
PROGRAMS = {"PEFT": "gpu/peft_gpu", "mpt": "gpu/mpt_gpu"}


class Job(NamedTuple):
    """A request to a worker; ``program`` is what its line in the results says."""

    case: str
    program: str
    request: dict[str, Any]


class Clock:
    """How much time is left."""

    def __init__(self, seconds: float):
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        return self._end - time.monotonic()

    def within(self, limit: float) -> float:
        return max(min(limit, self.left()), 1.0)


class Run:
    """Where the work is, what is to be measured, and where it goes."""

    def __init__(self, folder: Path, scratch: Path, scale: Scale, results: Results, clock: Clock):
        self.folder, self.scratch, self.scale = folder, scratch, scale
        self.results, self.clock, self.rows = results, clock, given.Rows.read(folder)
        self.packaged = scale is FULL
        scratch.mkdir(parents=True, exist_ok=True)

    def measure(self, setup: Setup) -> None:
        for program in PROGRAMS:
            jobs = [job for job in self.jobs(setup, program) if not self.results.has(job.case, job.program)]
            with contextlib.ExitStack() as workers:
                self._ask(workers, setup, program, jobs)

    def _ask(self, workers: contextlib.ExitStack, setup: Setup, program: str, jobs: list[Job]) -> None:
        """Asks one worker after another: whoever is gone after a case is followed by a new one."""
        worker = None
        for job in jobs:
            if self.clock.left() < LEAST:
                return
            try:
                worker = worker or workers.enter_context(self._worker(setup, program))
            except Ended as ended:
                self.results.add(job.case, job.program, {"error": str(ended)})
                return  # nor would the next one load
            try:
                found = worker.ask(within=self.clock.within(self.scale.limit), **job.request)
            except Ended as ended:
                worker, found = None, {"error": str(ended)}
            self.results.add(job.case, job.program, found | self._beside_peft(job, found))

    def _worker(self, setup: Setup, program: str) -> Worker:
        real = self.packaged and setup.model == REAL
        folder = "" if real else str(self.folder / setup.model)
        return Worker(
            PROGRAMS[program],
            within=self.clock.within(LOADING),
            model=setup.model,
            folder=folder,
            dtype=setup.dtype,
            rows=str(self.folder),
        )

    def jobs(self, setup: Setup, program: str) -> Iterator[Job]:
        """What is asked of one program."""
        if setup.profile:
            return
        yield self._job("peak", program, job="peak", size=self.scale.product)
        kernels = setup.kernels if program == "mpt" else ("plain",)
        for step in setup.steps:
            for kernel in kernels:
                options = {} if program == "PEFT" else {"kernel": kernel}
                name = program if kernel == "plain" else f"{program}, {kernel}"
                request = self._step(setup, step) | {"job": "step", "enough": self.scale.enough, **options}
                yield self._job(step_name(setup, step), name, **request)
        if setup.answers:
            prompt = setup.steps[0].prompt
            some = {"job": "classify", "prompt": prompt, "count": self.scale.answers, "batch_size": BATCH}
            yield self._job(f"classify {setup.name} prompt {prompt}", program, **some)
            step = setup.steps[0]
            some = self._step(setup, step) | {"job": "generate", "count": self.scale.new_tokens}
            yield self._job(f"generate {step_name(setup, step)}", program, **some)

    def _step(self, setup: Setup, step: Step) -> dict[str, Any]:
        vocab = self.scale.models[setup.model]["vocab_size"]
        return {"batch": self.rows.for_step(step, vocab), "prompt": step.prompt}

    def _job(self, case: str, program: str, **request: Any) -> Job:
        if request["job"] != "peak":
            request["evidence"] = str(self._evidence(case, program))
        return Job(case, program, request)

    def _evidence(self, case: str, program: str) -> Path:
        """Where a program leaves what it has found: a gradient, classes or tokens."""
        return self.scratch / f"{case}, {program}.npy".replace(" ", "_")

    def _beside_peft(self, job: Job, found: dict[str, Any]) -> dict[str, float]:
        """How near mpt's gradient or answers are to PEFT's, if there are both."""
        theirs, known = self._evidence(job.case, "PEFT"), self.results.has(job.case, "PEFT")
        if job.program == "PEFT" or "rows/s" not in found or not (known and theirs.exists()):
            return {}
        a, b = np.load(self._evidence(job.case, job.program)), np.load(theirs)
        if job.request["job"] != "step":
            return {"same answers": float(np.mean(a == b))}
        loss = self.results.value(job.case, "PEFT", "loss")
        return {
            "cosine": float(np.vdot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b))),
            "gradient differs by": float(np.abs(a - b).max() / np.abs(b).max()),
            "loss differs by": abs(found["loss"] - loss),
        }

    def profile(self) -> None:
        """The operations of mpt's step that keeps the device from its peak the most."""
        if any(
            program == "profile" and self.results.has(case, program) for case, program in self.results.found
        ):
            return
        dtype = self.scale.setups[0].dtype
        alike = [setup for setup in self.scale.setups if setup.dtype == dtype]
        steps = {step_name(setup, step): (setup, step) for setup in alike for step in setup.steps}
        lines = {case: self.results.found.get((case, "mpt"), {}) for case in steps}
        rates = {case: line["TFLOP"] / line["step s"] for case, line in lines.items() if "TFLOP" in line}
        if not rates:
            return
        setup, step = steps[case := min(rates, key=lambda case: rates[case])]
        request = self._step(setup, step) | {"job": "profile", "trace": str(self.scratch / "trace")}
        with contextlib.ExitStack() as workers:
            self._ask(workers, setup, "mpt", [Job(f"profile {case}", "profile", request)])


def step_name(setup: Setup, step: Step) -> str:
    return f"{setup.name} prompt {step.prompt} rows {step.rows} tokens {step.tokens}"


FULL = Scale()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--given", type=Path, default=Path("build/gpu/given"), help="what pack.sh has packed")
    parser.add_argument("--results", type=Path, default=Path("build/gpu/results.jsonl"))
    parser.add_argument("--scratch", type=Path, default=Path("build/gpu/scratch"))
    parser.add_argument("--seconds", type=float, default=440.0)
    parser.add_argument("--datasheet", type=float, help="the GPU's bf16 TFLOP/s by its maker's word")
    parser.add_argument("--tiny", action="store_true", help="every part on a CPU, at tiny sizes")
    options = parser.parse_args()
    clock, scale, folder = Clock(options.seconds), FULL, options.given
    if options.tiny:
        scale, folder = tiny(), options.scratch / "given"
        folder.mkdir(parents=True, exist_ok=True)
        given.write_models(folder, scale)
        given.write_random_rows(folder, scale)
    run = Run(folder, options.scratch, scale, Results(options.results), clock)
    if not run.results.has("machine", "all"):
        run.results.add("machine", "all", machine())
    for setup in scale.setups:
        print(f"{clock.left():.0f} s left: {setup.name if setup.model else 'profile'}", flush=True)
        run.profile() if setup.profile else run.measure(setup)
    shown = table(run.results, options.datasheet)
    options.results.with_suffix(".md").write_text(shown)
    print(shown)


if __name__ == "__main__":
    main()
