"""The page of an inspection: each finding as a drawing or a table, and how to read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from mpt.insight.findings import Findings, Study
from mpt.render.html import Html, Section, drawing, folded, page, paragraph, table
from mpt.render.plots import COLOURS, MARKS, figure, heat_map, inline, line, tree

READ = "docs/inspect.md in mpt's repository has the formulas and their sources."
# More cells than these leave no room for numbers in a heat map, or names on an axis.
MANY, MANY_NAMES = 20, 32
WIDTH = 5.4  # inches: what a telephone can show without scrolling


def inspection_page(found: Findings) -> str:
    """The whole page, with no more parts than there are findings."""
    sections = [
        _tokens(found),
        _norms(found),
        *(_similarity(found) if len(found.subjects) > 1 else []),
        *([_parts(found)] if found.parts else []),
        *([_positions(found)] if found.studies else []),
        *([_attention(found)] if found.studies else []),
        *([_transfer(found)] if found.transfer else []),
        *([Section("Left out", [paragraph(text) for text in found.missing])] if found.missing else []),
    ]
    lengths = sorted({len(subject.vectors) for subject in found.subjects})
    vectors = f"{len(found.subjects)} prompts of {' or '.join(map(str, lengths))} vectors"
    lead = f"{vectors} for {found.backbone}. {READ}"
    return page(f"Prompts of {found.run}", lead, sections)


def _tokens(found: Findings) -> Section:
    parts = [
        paragraph(
            "The tokens whose embeddings point most nearly where each vector does, with the cosine of the "
            "first; and the tokens that the head would give for it, behind the final norm. "
            "A low cosine says that the vector is no word: take its neighbours lightly."
        )
    ]
    for i, (subject, words) in enumerate(zip(found.subjects, found.words)):
        lines = [
            (f"{place}", " ".join(near), " ".join(out), f"{cosine:.2f}", f"{length:.2f}")
            for place, (near, out, cosine, length) in enumerate(
                zip(words.near, words.read_out, words.cosines, found.lengths(subject))
            )
        ]
        head = ("position", "nearest by cosine", "read out", "cosine", "norm")
        parts.append(folded(subject.name, [table(head, lines, texts=3)], opened=i == 0))
    return Section(
        "Nearest tokens", [*parts, paragraph("Norms are in those of a typical token.", faint=True)]
    )


def _norms(found: Findings) -> Section:
    count, middle = len(found.subjects), float(np.median(found.norms))
    drawn, axes = figure(WIDTH, 1.3 + 0.24 * count)
    axes.axvspan(*np.quantile(found.norms / middle, (0.05, 0.95)), color="#7F7F7F", alpha=0.25, linewidth=0)
    axes.axvline(1, color="#7F7F7F", linewidth=1)
    for place, subject in enumerate(found.subjects):
        lengths = found.lengths(subject)
        axes.plot(lengths, [place] * len(lengths), "|", color=COLOURS[0], markersize=9)
        axes.plot(np.median(lengths), place, "o", color=COLOURS[1], markersize=4)
    axes.set_yticks(range(count), [subject.name for subject in found.subjects])
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("norm, in that of a typical token")
    caption = (
        "A line for each vector, a dot for their median; the band holds 90 % of the vocabulary's embeddings, "
        f"whose median norm is {middle:.3g}."
    )
    return Section("Norms", [drawing(inline(drawn, "Norms of the prompts' vectors"), caption)])


def _similarity(found: Findings) -> Iterator[Section]:
    names, order = [subject.name for subject in found.subjects], found.similarity.order
    ordered = [names[i] for i in order]
    size = 1.9 + 0.42 * min(len(names), MANY)
    drawn, axes = figure(size + 0.9, size)
    cosines = found.similarity.cosines[np.ix_(order, order)]
    shown = heat_map(axes, cosines, ordered, ordered, "{:.2f}" if len(names) <= MANY else "")
    tree(axes, found.similarity.tree)
    drawn.colorbar(shown, ax=axes, shrink=0.7).outline.set_visible(False)
    heat = drawing(
        inline(drawn, "Cosines between prompts"),
        "Cosines of the prompts' mean vectors, like ones beside each other; the tree joins what is most "
        "alike first. Prompts that started from one text stay alike.",
    )
    yield Section("Similarity", [heat])

    drawn, axes = figure(WIDTH, 3.6 + 0.09 * len(names))
    tasks = list(dict.fromkeys(subject.task for subject in found.subjects))
    files = list(dict.fromkeys(subject.file for subject in found.subjects))
    for i, (subject, (x, y)) in enumerate(zip(found.subjects, found.similarity.places)):
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
        f"The plane keeps {100 * found.similarity.kept:.0f} % of the spread. One colour is one task, one "
        "mark one stage; only distances mean something, the axes do not."
    )
    yield Section("Map", [drawing(inline(drawn, "Map of the prompts"), caption)])


def _parts(found: Findings) -> Section:
    parts: list[Html] = []
    for file, share in found.parts.items():
        names = [subject.name for subject in found.subjects if subject.file == file]
        ranks = found.ranks.get(file)
        lines = [
            (name, f"{100 * own:.1f}", *([] if ranks is None else [f"{100 * part:.1f}" for part in ranks[i]]))
            for i, (name, own) in enumerate(zip(names, share.own))
        ]
        components = [] if ranks is None else [f"component {r}, %" for r in range(ranks.shape[1])]
        parts.append(
            paragraph(f"{file}: {100 * share.common:.1f} % of the prompts is common to all of them.")
        )
        parts.append(table(("prompt", "its own, %", *components), lines))
    if found.ranks:
        parts.append(
            paragraph(
                "A universal prompt is a shared matrix times a low-rank one for each task. What is common is "
                "the shared part; what is a prompt's own comes of its low-rank part alone. The components "
                "are those of that low-rank matrix: all ones, as at the start, is one component.",
                faint=True,
            )
        )
    drawn, axes = figure(WIDTH, 2.8)
    for place, (file, share) in enumerate(found.parts.items()):
        by_position = 100 * share.own_by_position
        line(axes, place, file, range(len(by_position)), by_position.tolist())
    axes.set_xlabel("position")
    axes.set_ylabel("own, %")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    caption = "Where in the prompt the tasks differ: the share that is not common, by position."
    parts.append(drawing(inline(drawn, "Share of the tasks' own part by position"), caption))
    return Section("Shared and own", parts)


def _positions(found: Findings) -> Section:
    parts = [
        paragraph(
            "By how much the loss on a row rises when one vector is left out (those behind it move up by a "
            "place). Above zero the vector helps; the thin lines are ± one standard error over the rows."
        )
    ]
    for study in found.studies:
        drawn, axes = figure(WIDTH, 2.6)
        places = np.arange(len(study.ablation.rise))
        axes.bar(places, study.ablation.rise, color=COLOURS[0], width=0.8)
        axes.errorbar(
            places, study.ablation.rise, np.nan_to_num(study.ablation.error), fmt="none", ecolor="#7F7F7F"
        )
        _name_places(axes.set_xticks, found, study)
        axes.set_ylabel("rise, nats")
        name = found.subjects[study.subject].name
        caption = f"{name}: loss {study.ablation.loss:.3f} nats with the whole prompt, on {study.rows}."
        parts.append(drawing(inline(drawn, f"Worth of each vector of {name}"), caption))
    return Section("Which positions matter", parts)


def _attention(found: Findings) -> Section:
    parts = [
        paragraph(
            "The share of attention that goes to each vector, by layer: from the positions that predict the "
            "label and, in an encoder, from the text; the mean over heads, positions and rows. What is "
            "missing to 1 goes to the text. Much attention is not much influence: compare it with the "
            "losses above."
        )
    ]
    for study in found.studies:
        name = found.subjects[study.subject].name
        for source, mass in study.attention.items():
            drawn, axes = figure(WIDTH, 1.6 + 0.1 * len(mass))
            shown = heat_map(axes, mass, [""] * len(mass), [""] * mass.shape[1], "")
            axes.set_yticks([0, len(mass) - 1], ["0", str(len(mass) - 1)])
            axes.set_ylabel("layer")
            if source == "labels, decoder":
                axes.set_xticks(range(mass.shape[1]))
            else:
                _name_places(axes.set_xticks, found, study, mass.shape[1])
            drawn.colorbar(shown, ax=axes).outline.set_visible(False)
            total = mass.sum(axis=1)
            caption = (
                f"{name}, from {source}: {100 * total.mean():.0f} % of attention goes to the prompt, "
                f"{100 * total.max():.0f} % in layer {total.argmax()}."
            )
            parts.append(drawing(inline(drawn, f"Attention from {source} to the vectors of {name}"), caption))
    return Section("Where labels look", parts)


def _name_places(set_ticks, found: Findings, study: Study, count: int = 0) -> None:
    """Positions with their nearest tokens; bare numbers, and not all, of a long prompt."""
    words = found.words[study.subject].near[: count or None]
    if len(words) > MANY_NAMES:
        places: Sequence[int] = range(0, len(words), -(-len(words) // 16))
        set_ticks(places, [str(place) for place in places], rotation=0)
    else:
        names = [f"{near[0]} {place}" for place, near in enumerate(words)]
        set_ticks(range(len(words)), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)


def _transfer(found: Findings) -> Section:
    assert found.transfer is not None
    targets, scores = found.transfer
    drawn, axes = figure(2.6 + 0.8 * len(targets), 1.4 + 0.3 * len(scores))
    names = [subject.name for subject in found.subjects]
    heat_map(axes, 100 * scores, names, targets)
    caption = "The metric of each task's rows, times 100, behind each prompt as it is. Compare down a column."
    return Section("Transfer", [drawing(inline(drawn, "Transfer matrix"), caption)])
