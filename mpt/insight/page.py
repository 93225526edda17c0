"""A page of one file: headings, texts, tables and drawings, with nothing to fetch.

Whatever text goes in is escaped; only ``Html``, which the functions here make, goes in as it is.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Html(str):
    """Text that is HTML already."""


class Section(NamedTuple):
    """A part of a page, under a heading that the list of contents leads to."""

    title: str
    parts: Sequence[Html]


# Two sets of colours, by what the reader's system asks for. What is too wide scrolls in its own box.
STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c1c1c; --faint: #636363; --line: #ddd;
  --link: #0060a8 }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16181b; --ink: #e4e4e4; --faint: #a2a2a2; --line: #3a3d42; --link: #7cc0f5 }
}
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1rem; max-width: 64rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: break-word }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0.5rem 0 }
h2 { font-size: 1.2rem; margin: 2.2rem 0 0.4rem; padding-top: 0.7rem; border-top: 1px solid var(--line) }
p { margin: 0.5rem 0; max-width: 44rem }
a { color: var(--link) }
nav a { margin-right: 1rem; white-space: nowrap; display: inline-block }
.wide { overflow-x: auto; margin: 0.7rem 0 }
.wide svg { display: block; width: 100%; height: auto }
figure { margin: 1rem 0 }
figcaption, .faint { color: var(--faint); font-size: 0.9rem; max-width: 44rem }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: 0.2rem 0.9rem 0.2rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; white-space: nowrap }
.number { text-align: right }
th { color: var(--faint); font-weight: 600 }
details { margin: 0.5rem 0 }
summary { cursor: pointer }
code { font-size: 0.92em }
@media print { details::details-content { content-visibility: visible } }
"""


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """A whole page.

    Args:
        lead: one sentence under the title.
    """
    links = (f'<a href="#part-{i}">{html.escape(part.title)}</a>' for i, part in enumerate(sections))
    body = "\n".join(
        f'<section>\n<h2 id="part-{i}">{html.escape(part.title)}</h2>\n'
        + "\n".join(part.parts)
        + "\n</section>"
        for i, part in enumerate(sections)
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{html.escape(title)}</h1>\n{paragraph(lead)}\n<nav>{''.join(links)}</nav>\n{body}\n"
        "</body>\n</html>\n"
    )


def paragraph(text: str, faint: bool = False) -> Html:
    """Running text; faint for a remark."""
    return Html(f"<p{' class=faint' if faint else ''}>{escaped(text)}</p>")


def table(head: Sequence[str], lines: Iterable[Sequence[str]], texts: int = 1) -> Html:
    """A table whose first ``texts`` columns are words; the others are figures, set to the right."""

    def row(kind: str, cells: Sequence[str]) -> str:
        opened = (f"<{kind}{' class=number' if i >= texts else ''}>" for i in range(len(cells)))
        return f"<tr>{''.join(f'{tag}{escaped(cell)}</{kind}>' for tag, cell in zip(opened, cells))}</tr>"

    body = "\n".join(row("td", line) for line in lines)
    inner = f"<thead>{row('th', head)}</thead>\n<tbody>\n{body}\n</tbody>"
    return Html(f'<div class="wide"><table>\n{inner}</table></div>')


def drawing(svg: str, caption: str) -> Html:
    """A figure of ``mpt.insight.figures.inline``, with words under it."""
    caption = f"<figcaption>{escaped(caption)}</figcaption>"
    return Html(f'<figure><div class="wide">{svg}</div>{caption}</figure>')


def folded(summary: str, parts: Sequence[Html], opened: bool = False) -> Html:
    """What shows when its summary is clicked."""
    return Html(
        f"<details{' open' if opened else ''}><summary>{escaped(summary)}</summary>{''.join(parts)}</details>"
    )


def escaped(text: str) -> str:
    return text if isinstance(text, Html) else html.escape(text)
