"""Writes the report of a run from its directory: report.html, a single file that loads nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mpt.adaptation.result import Result, read_results
from mpt.catalog.library import name_of
from mpt.comparison import tables
from mpt.comparison.config import CompareConfig
from mpt.comparison.entries import Cell, cells
from mpt.comparison.estimates import Comparison, interval, pretraining_seconds
from mpt.comparison.figures import figures
from mpt.config.continual import ContinualConfig
from mpt.config.pretrain import PretrainConfig
from mpt.continual_learning import results as continual_report
from mpt.inference.answers import kept_answers
from mpt.loading.shapes import abstract_backbone
from mpt.methods import AdaptConfig
from mpt.models.cost import parameter_count
from mpt.pretraining.gains import kept_gains
from mpt.prompts.saved import has_prompt
from mpt.render.html import (
    Html,
    Section,
    drawing,
    folded,
    grid,
    link,
    listing,
    page,
    paragraph,
    strong,
    table,
)
from mpt.render.plots import inline
from mpt.report.costs import cost_sections, method_costs
from mpt.report.curves import curve_sections
from mpt.report.facts import Facts, facts
from mpt.report.gains import gain_section
from mpt.report.machine import keep_machine
from mpt.report.mistakes import answer_sections
from mpt.report.records import prompt_sections, record_sections
from mpt.rundir.directory import write_atomic
from mpt.rundir.found import REPORT
from mpt.system.paths import AnyPath, run_path, run_title
from mpt.system.processes import is_primary
from mpt.system.said import LINE_EVERY, say


def finish(run: AnyPath) -> None:
    """Ends a recipe: records the machine, and writes the report."""
    say(f"writing {run / REPORT}", every=LINE_EVERY)
    keep_machine(run)
    report(run)


def report(run: AnyPath) -> AnyPath:
    """Writes the report of a run, finished or not, and returns its path.

    Raises:
        UserError: it is not a run directory.
    """
    write_atomic(run / REPORT, _page(facts(run)) if is_primary() else "")
    return run / REPORT


def _page(run_facts: Facts) -> str:
    config = run_facts.config
    if isinstance(config, CompareConfig):
        lead, sections = _comparison(run_facts, config)
    elif isinstance(config, ContinualConfig):
        lead, sections = _sequence(run_facts, config)
    elif isinstance(config, AdaptConfig):
        lead, sections = _adaptation(run_facts, config)
    else:
        lead, sections = _pretraining(run_facts, config)
    return page(f"Report of {run_title(run_facts.path)}", lead, [*sections, *record_sections(run_facts)])


def _training_sections(run_facts: Facts) -> Iterator[Section]:
    """The sections that every run has which trains prompts itself."""
    yield from curve_sections(run_facts.stages)
    yield from answer_sections(run_facts.answers)
    yield from cost_sections(run_facts)
    yield from prompt_sections(run_facts)


def _pretraining(run_facts: Facts, config: PretrainConfig) -> tuple[str, list[Section]]:
    finished = has_prompt(run_facts.path, "universal")
    what = f"A universal prompt from {', '.join(map(name_of, config.tasks))}, on {config.model.name}"
    found = kept_gains(run_facts.path)
    sections = [gain_section(found)] if found else []
    return f"{what}; {_state(run_facts, finished)}.", [*sections, *_training_sections(run_facts)]


def _adaptation(run_facts: Facts, config: AdaptConfig) -> tuple[str, list[Section]]:
    results = read_results(run_facts.path)
    by = f"baseline {config.baseline}" if config.baseline else f"method {config.method}"
    what = f"{', '.join(map(name_of, (config.task, *config.also)))} learned on {config.model.name} ({by})"
    # An imported prompt has no training stages.
    finished = bool(results) or not run_facts.stages
    sections = [_results(results, config.scored)] if results else []
    return f"{what}; {_state(run_facts, finished)}.", [*sections, *_training_sections(run_facts)]


def _results(results: Sequence[Result], scored: str) -> Section:
    lines = [
        (
            result.task,
            result.metric,
            tables.in_percent(interval(result)),
            ", ".join(f"{100 * score:.1f}" for score in result.scores),
            f"{result.rows:,}",
        )
        for result in results
    ]
    head = ("task", "metric", "mean", "each seed", f"{scored} rows")
    words = (
        "Times 100; in brackets the 95 % interval over draws of training examples and of scored rows, in "
        "parentheses what draws have that are too few for one."
    )
    remarks = [
        paragraph(f"{result.task}: {remark}" if len(results) > 1 else remark)
        for result in results
        for remark in result.remarks
    ]
    return Section(
        "Results", [table(head, lines, texts=2, named=True), paragraph(words, faint=True), *remarks]
    )


def _state(run_facts: Facts, finished: bool) -> str:
    """Whether the run has finished, or how far it has got."""
    if finished:
        return "finished"
    last = run_facts.stages[-1] if run_facts.stages else None
    steps = f" of {last.spending.steps:,}" if last and last.spending else ""
    return f"not finished: {last.name} is at step {last.step:,}{steps}" if last else "not finished"


def _comparison(run_facts: Facts, config: CompareConfig) -> tuple[str, list[Section]]:
    runs = {cell: run_facts.path / cell.folder(config) for cell in cells(config)}
    results = {cell: result for cell, run in runs.items() for result in read_results(run)}
    of_cell = {cell: facts(run) for cell, run in runs.items() if (run / "config.yaml").exists()}
    source = run_path(config.source or run_facts.path / "pretrain")
    pretrained = facts(source) if (source / "config.yaml").exists() else None
    all_runs = [*of_cell.values(), *([pretrained] if pretrained else [])]
    sizes = [stage.spending.backbone for one in all_runs for stage in one.stages if stage.spending]
    # The smallest: a run of LoRA counts its low-rank matrices as part of the backbone.
    size = min(sizes, default=0) or parameter_count(abstract_backbone(config.pretrain.model.name))
    comparison = Comparison.of(config, size, results)
    state = (
        "finished"
        if len(results) == len(runs)
        else f"not finished: {len(results)} of {len(runs)} adaptations are finished"
    )
    methods = list(dict.fromkeys(cell.method for cell in runs))  # without those that apply to no target
    targets = ", ".join(map(name_of, config.targets))
    lead = f"{len(methods)} methods on {targets}, on {config.pretrain.model.name}; "
    seconds = pretraining_seconds(source) if source.exists() and has_prompt(source, "universal") else None
    sections = [
        Section("Results", [*_tables(comparison, seconds), *_rates(run_facts.path)]),
        *_figures(comparison),
        *_answers(runs, results, config.reference),
        method_costs(
            {method: [of_cell[c] for c in of_cell if c.method == method] for method in methods},
            pretrained,
            config.reference,
        ),
        _links(run_facts.path, runs, source if pretrained else None),
    ]
    return lead + state + ".", sections


def _tables(comparison: Comparison, seconds: float | None) -> Iterator[Html]:
    for shots in comparison.shots:
        if len(comparison.shots) > 1:
            yield paragraph(tables.k(shots))
        for head, *lines in tables.written(comparison, shots):
            shown = [[strong(name) if name == comparison.reference else name, *rest] for name, *rest in lines]
            yield table(head, shown, named=True)
    yield paragraph(tables.caption(comparison, seconds), faint=True)


def _rates(run: AnyPath) -> list[Html]:
    """The trials by which learning rates were chosen, if they were."""
    file = run / "tuning.json"
    return (
        [folded("tuning.json: every trial, and the factors chosen", [listing(file.read_text())])]
        if file.exists()
        else []
    )


def _figures(comparison: Comparison) -> list[Section]:
    """The figures of those methods that have results for all targets."""
    if not any(comparison.row(method, shots) for method in comparison.methods for shots in comparison.shots):
        return []
    drawn = [drawing(inline(one, words), f"{words}.") for _, words, one in figures(comparison)]
    words = (
        "Bars and bands are the table's intervals; a dotted line is a method that trains nothing. Learning "
        "curves are the means over seeds, on validation rows."
    )
    return [Section("Figures", [paragraph(words), grid(drawn)])]


def _answers(runs: dict[Cell, AnyPath], results: dict[Cell, Result], reference: str) -> Iterator[Section]:
    """The answers of the reference, or else of the first method that has results."""
    methods = list(dict.fromkeys(cell.method for cell in results))
    shown = reference if reference in methods else next(iter(methods), "")
    shown_cells = [cell for cell in results if cell.method == shown]
    has_several_shots = len({cell.shots for cell in shown_cells}) > 1
    answers = {
        f"{task}, {tables.k(cell.shots or 0)}" if has_several_shots else task: by_seed
        for cell in shown_cells
        for task, by_seed in kept_answers(runs[cell]).items()
    }
    yield from answer_sections(answers, of=shown)


def _links(run: AnyPath, runs: dict[Cell, AnyPath], source: AnyPath | None) -> Section:
    """Links to the reports of all runs of a comparison."""
    lines = [(_report_of(run, source, "universal prompt"), "all", "")] if source else []
    lines += [
        (
            _report_of(run, path, cell.method),
            name_of(cell.target),
            "" if cell.shots is None else tables.k(cell.shots),
        )
        for cell, path in runs.items()
    ]
    return Section("Runs", [table(("report of", "target", "examples"), lines, texts=3)])


def _report_of(run: AnyPath, path: AnyPath, words: str) -> str:
    """A link to the report of a run, if it exists and is inside this run directory; else only its name."""
    inside = path.is_relative_to(run) and (path / REPORT).exists()
    return link(words, str((path / REPORT).relative_to(run))) if inside else words


def _sequence(run_facts: Facts, config: ContinualConfig) -> tuple[str, list[Section]]:
    results = continual_report.read_results(run_facts.path)
    what = f"{', '.join(map(name_of, config.tasks))} one after another, on {config.model.name}"
    methods = [path.parent for path in sorted(run_facts.path.glob("*/config.yaml"))]
    finished = bool(results) or bool(run_facts.answers)  # the run of a single method ends with its answers
    sections = [*_training_sections(run_facts)]
    if results:
        sections = [*_transfer(results), *sections]
    if methods:
        names = {str(name): words for name, words in continual_report.TITLES.items()}
        lines = [(_report_of(run_facts.path, path, names.get(path.name, path.name)),) for path in methods]
        sections.append(Section("Runs", [table(("report of",), lines)]))
    return f"{what}; {_state(run_facts, finished)}.", sections


def _transfer(results: continual_report.Results) -> Iterator[Section]:
    lines, words = continual_report.summary(results)
    yield Section(
        "Results", [table(continual_report.HEADER, lines, named=True), paragraph(words, faint=True)]
    )
    course = inline(continual_report.course_picture(results), "The mean over the tasks learned so far")
    pictures = [
        drawing(
            inline(continual_report.matrix_picture(title, results.tasks, outcome), title),
            f"{title}: each task's metric, in percent, before anything and after each task of the sequence. "
            "Tasks left of the line have been learned by then.",
        )
        for method, outcome in results.outcomes.items()
        for title in [continual_report.TITLES[method]]
    ]
    caption = "Each method's mean over the tasks learned so far; it falls by forgetting, or by a hard task."
    yield Section("What is kept", [drawing(course, caption), grid(pictures)])
