"""The HTML page of an inspection: figures and tables of its results, with notes on how to read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from mpt.insight.findings import Findings, Study
from mpt.render.html import Html, Section, drawing, folded, grid, page, paragraph, table
from mpt.render.plots import COLOURS, MARKS, counting_axis, figure, heat_map, inline, line, tree

READ = "docs/inspect.md in mpt's repository has the formulas and their sources."
# With more cells than these, a heat map has no space for numbers, and an axis none for names.
MANY, MANY_NAMES = 20, 32
WIDTH, NARROW = 5.4, 7.0  # inches of a figure, and the most that half a page has


def inspection_page(findings: Findings) -> str:
    """The page as HTML; it has sections only for those results that there are."""
    sections = [
        _tokens(findings),
        _norms(findings),
        *(_similarity(findings) if len(findings.subjects) > 1 else []),
        *([_variance_shares(findings)] if findings.variance_shares else []),
        *([_positions(findings)] if findings.studies else []),
        *([_attention(findings)] if any(study.attention for study in findings.studies) else []),
        *([_transfer(findings)] if findings.transfer else []),
        *([Section("Left out", [paragraph(text) for text in findings.missing])] if findings.missing else []),
    ]
    lengths = sorted({len(subject.vectors) for subject in findings.subjects})
    vectors = f"{len(findings.subjects)} prompts of {' or '.join(map(str, lengths))} vectors"
    lead = f"{vectors} for {findings.backbone}. {READ}"
    return page(f"Prompts of {findings.run}", lead, sections)


def _tokens(findings: Findings) -> Section:
    blocks = [
        paragraph(
            "The tokens whose embeddings have the largest cosine with each vector, with the cosine of the "
            "first; and the tokens that the output head would predict from it, after the final norm. "
            "A low cosine means that the vector is not close to any word."
        )
    ]
    for i, (subject, words) in enumerate(zip(findings.subjects, findings.words)):
        lines = [
            (f"{position}", " ".join(near), " ".join(out), f"{cosine:.2f}", f"{length:.2f}")
            for position, (near, out, cosine, length) in enumerate(
                zip(words.near, words.read_out, words.cosines, findings.lengths(subject))
            )
        ]
        head = ("position", "nearest by cosine", "read out", "cosine", "norm")
        blocks.append(folded(subject.name, [table(head, lines, texts=3)], opened=i == 0))
    return Section(
        "Nearest tokens", [*blocks, paragraph("Norms are relative to the median token's.", faint=True)]
    )


def _norms(findings: Findings) -> Section:
    count, middle = len(findings.subjects), float(np.median(findings.norms))
    drawn, axes = figure(WIDTH, 1.3 + 0.24 * count)
    axes.axvspan(
        *np.quantile(findings.norms / middle, (0.05, 0.95)), color="#7F7F7F", alpha=0.25, linewidth=0
    )
    axes.axvline(1, color="#7F7F7F", linewidth=1)
    for i, subject in enumerate(findings.subjects):
        lengths = findings.lengths(subject)
        axes.plot(lengths, [i] * len(lengths), "|", color=COLOURS[0], markersize=9)
        axes.plot(np.median(lengths), i, "o", color=COLOURS[1], markersize=4)
    axes.set_yticks(range(count), [subject.name for subject in findings.subjects])
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("norm, relative to the median token's")
    caption = (
        "A line for each vector, a dot for their median; the band holds 90 % of the vocabulary's embeddings, "
        f"whose median norm is {middle:.3g}."
    )
    return Section("Norms", [drawing(inline(drawn, "Norms of the prompts' vectors"), caption)], narrow=True)


def _similarity(findings: Findings) -> Iterator[Section]:
    names, order = [subject.name for subject in findings.subjects], findings.similarity.order
    ordered = [names[i] for i in order]
    size = 1.9 + 0.42 * min(len(names), MANY)
    drawn, axes = figure(size + 0.9, size)
    cosines = findings.similarity.cosines[np.ix_(order, order)]
    shown = heat_map(axes, cosines, ordered, ordered, "{:.2f}" if len(names) <= MANY else "")
    tree(axes, findings.similarity.tree)
    drawn.colorbar(shown, ax=axes, shrink=0.7).outline.set_visible(False)
    heat = drawing(
        inline(drawn, "Cosines between prompts"),
        "Cosines of the prompts' mean vectors, with similar prompts next to each other; the tree joins the "
        "most similar ones first. Prompts that started from the same text stay similar.",
    )
    yield Section("Similarity", [heat], narrow=size + 0.9 <= NARROW)

    drawn, axes = figure(WIDTH, 3.6 + 0.09 * len(names))
    tasks = list(dict.fromkeys(subject.task for subject in findings.subjects))
    files = list(dict.fromkeys(subject.file for subject in findings.subjects))
    for i, (subject, (x, y)) in enumerate(zip(findings.subjects, findings.similarity.coordinates)):
        colour = COLOURS[tasks.index(subject.task) % len(COLOURS)]
        mark = MARKS[files.index(subject.file) % len(MARKS)]
        axes.plot(x, y, mark, color=colour, markersize=7, label=f"{i} {subject.name}")
        axes.annotate(str(i), (x, y), (5, 3), textcoords="offset points", fontsize=8)
    axes.margins(0.15)
    axes.grid(False)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xticks([])
    axes.set_yticks([])
    drawn.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    caption = (
        f"The plane keeps {100 * findings.similarity.explained:.0f} % of the variance. Colours are tasks, "
        "marks are stages. Only distances have a meaning, the axes do not."
    )
    yield Section("Map", [drawing(inline(drawn, "Map of the prompts"), caption)], narrow=True)


def _variance_shares(findings: Findings) -> Section:
    blocks: list[Html] = []
    for file, share in findings.variance_shares.items():
        names = [subject.name for subject in findings.subjects if subject.file == file]
        ranks = findings.ranks.get(file)
        lines = [
            (
                name,
                f"{100 * specific:.1f}",
                *(f"{100 * rank:.1f}" for rank in ([] if ranks is None else ranks[i])),
            )
            for i, (name, specific) in enumerate(zip(names, share.specific))
        ]
        components = [] if ranks is None else [f"component {r}, %" for r in range(ranks.shape[1])]
        blocks.append(
            paragraph(f"{file}: {100 * share.common:.1f} % of the prompts is common to all of them.")
        )
        blocks.append(table(("prompt", "its own, %", *components), lines))
    if findings.ranks:
        blocks.append(
            paragraph(
                "A universal prompt is a shared matrix times a low-rank one for each task. What is common "
                "comes from the shared matrix, what is a prompt's own from its low-rank matrix alone. The "
                "components are those of the low-rank matrix; its initial value, all ones, is one component.",
                faint=True,
            )
        )
    drawn, axes = figure(WIDTH, 2.8)
    for i, (file, share) in enumerate(findings.variance_shares.items()):
        by_position = 100 * share.specific_by_position
        line(axes, i, file, range(len(by_position)), by_position.tolist())
    counting_axis(axes, "position")
    axes.set_ylabel("own, %")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    caption = "Where in the prompt the tasks differ: the share that is not common, by position."
    blocks.append(drawing(inline(drawn, "Share of the tasks' own part by position"), caption))
    return Section("Shared and own", blocks, narrow=True)


def _positions(findings: Findings) -> Section:
    how = paragraph(
        "The rise of the loss on a row when one vector is left out (the vectors after it move up by one "
        "position). Above zero the vector helps; the thin lines are ± one standard error over the rows."
    )
    drawings = []
    for study in findings.studies:
        drawn, axes = figure(WIDTH, 2.6)
        positions = np.arange(len(study.ablation.rise))
        axes.bar(positions, study.ablation.rise, color=COLOURS[0], width=0.8)
        axes.errorbar(
            positions, study.ablation.rise, np.nan_to_num(study.ablation.error), fmt="none", ecolor="#7F7F7F"
        )
        _label_positions(axes.set_xticks, findings, study)
        axes.set_ylabel("rise, nats")
        name = findings.subjects[study.subject].name
        caption = f"{name}: loss {study.ablation.loss:.3f} nats with the whole prompt, on {study.rows}."
        drawings.append(drawing(inline(drawn, f"Worth of each vector of {name}"), caption))
    return Section("Which positions matter", [how, grid(drawings)])


def _attention(findings: Findings) -> Section:
    how = paragraph(
        "The share of attention that goes to each vector, by layer: from the positions that predict the "
        "label and, in an encoder, from the text; the mean over heads, positions and rows. The rest goes to "
        "the text. Much attention does not mean much influence: compare it with the losses above."
    )
    drawings = []
    for study in findings.studies:
        name = findings.subjects[study.subject].name
        for source, mass in study.attention.items():
            drawn, axes = figure(WIDTH, 1.6 + 0.1 * len(mass))
            shown = heat_map(axes, mass, [""] * len(mass), [""] * mass.shape[1], "")
            axes.set_yticks([0, len(mass) - 1], ["0", str(len(mass) - 1)])
            axes.set_ylabel("layer")
            if source == "labels, decoder":
                axes.set_xticks(range(mass.shape[1]))
            else:
                _label_positions(axes.set_xticks, findings, study, mass.shape[1])
            drawn.colorbar(shown, ax=axes).outline.set_visible(False)
            total = mass.sum(axis=1)
            caption = (
                f"{name}, from {source}: {100 * total.mean():.0f} % of attention goes to the prompt, "
                f"{100 * total.max():.0f} % in layer {total.argmax()}."
            )
            drawings.append(
                drawing(inline(drawn, f"Attention from {source} to the vectors of {name}"), caption)
            )
    return Section("Where labels look", [how, grid(drawings)])


def _label_positions(set_ticks, findings: Findings, study: Study, count: int = 0) -> None:
    """Labels positions by their nearest tokens; a long prompt only gets some numbers."""
    words = findings.words[study.subject].near[: count or None]
    if len(words) > MANY_NAMES:
        positions: Sequence[int] = range(0, len(words), -(-len(words) // 16))
        set_ticks(positions, [str(position) for position in positions], rotation=0)
    else:
        names = [f"{near[0]} {position}" for position, near in enumerate(words)]
        set_ticks(range(len(words)), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)


def _transfer(findings: Findings) -> Section:
    assert findings.transfer is not None
    targets, scores = findings.transfer
    width = 2.6 + 0.8 * len(targets)
    drawn, axes = figure(width, 1.4 + 0.3 * len(scores))
    names = [subject.name for subject in findings.subjects]
    heat_map(axes, 100 * scores, names, targets)
    caption = "The metric of each task's rows, times 100, with each prompt, untrained. Compare down a column."
    return Section("Transfer", [drawing(inline(drawn, "Transfer matrix"), caption)], narrow=width <= NARROW)
