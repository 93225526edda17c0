"""Results as lines of JSON, written as they are found, and a table of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# What two programs that compute the same thing may differ by: in float32 their gradients; in bfloat16 their
# losses, as a share, since there a gradient that has gone back through thirty layers is half rounding.
COSINE, LOSS = 0.9999, 0.02


class Results:
    """The lines of a file; what is in it without an error is not measured again."""

    def __init__(self, file: Path):
        file.parent.mkdir(parents=True, exist_ok=True)
        self.file, self.found = file, {}
        for line in file.read_text().splitlines() if file.exists() else ():
            self._keep(json.loads(line))

    def _keep(self, line: dict[str, Any]) -> None:
        self.found[line["case"], line["program"]] = line

    def has(self, case: str, program: str) -> bool:
        return "error" not in self.found.get((case, program), {"error": ""})

    def add(self, case: str, program: str, found: dict[str, Any]) -> None:
        line = {"case": case, "program": program, **found}
        self._keep(line)
        with self.file.open("a") as opened:
            print(json.dumps(line), file=opened)
        print(json.dumps(line)[:300], flush=True)

    def value(self, case: str, program: str, name: str) -> Any:
        """A figure; None where there is none."""
        return self.found.get((case, program), {}).get(name)


def table(results: Results, datasheet: float | None = None) -> str:
    """The training steps in Markdown, with what else was measured below.

    Args:
        datasheet: the device's bf16 TFLOP/s by its maker's word.
    """
    measured = results.value("peak", "mpt", "TFLOP/s")
    cases = list(dict.fromkeys(case for case, _ in results.found))
    programs = list(dict.fromkeys(p for _, p in results.found if p not in ("PEFT", "profile", "all")))
    header = ["case", "PEFT rows/s", "program", "rows/s", "times", "PEFT GB", "GB", "share of memory"]
    header += ["of the peak", "of the datasheet", "cosine", "loss differs by"]
    lines, errors = [header, ["---"] * len(header)], []
    for case in cases:
        peft = results.found.get((case, "PEFT"), {})
        for program in programs:
            ours = results.found.get((case, program), {})
            if "rows/s" in ours:
                lines.append([case, *_figures(case, peft, program, ours, measured, datasheet)])
    for (case, program), line in results.found.items():
        if "error" in line:
            errors.append(f"- {case}, {program}: {line['error']}")
    shown = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    about = ("machine", "peak")
    others = [f"- {json.dumps(line)}" for (case, _), line in results.found.items() if case in about]
    return "\n\n".join(filter(None, (shown, "\n".join(others), "\n".join(errors)))) + "\n"


def is_comparable(case: str, ours: dict[str, Any]) -> bool:
    """Whether two programs compute the same thing, so that their times may be compared."""
    if "cosine" not in ours:
        return True
    return ours["cosine"] >= COSINE if "float32" in case else ours["loss differs by"] <= LOSS * ours["loss"]


def _figures(
    case: str,
    peft: dict[str, Any],
    program: str,
    ours: dict[str, Any],
    peak: float | None,
    datasheet: float | None,
) -> list[str]:
    rate = ours["TFLOP"] / ours["step s"] if "TFLOP" in ours else None
    agree = ours.get("cosine", ours.get("same answers"))
    return [
        _shown(peft.get("rows/s")),
        program,
        _shown(ours["rows/s"]),
        _ratio(ours["rows/s"], peft.get("rows/s")) if is_comparable(case, ours) else "not compared",
        _shown(peft.get("GB")),
        _shown(ours.get("GB")),
        _ratio(ours.get("GB"), peft.get("GB")),
        _ratio(rate, peak),
        _ratio(rate, datasheet),
        _shown(agree, 5),
        _shown(ours.get("loss differs by")),
    ]


def _ratio(a: float | None, b: float | None) -> str:
    return _shown(a / b) if a is not None and b else ""


def _shown(figure: float | None, digits: int = 3) -> str:
    return "" if figure is None else f"{figure:.{digits}g}"
