"""HTML pages in a single file, with headings, texts, tables and figures, that load nothing else.

All text is escaped, except ``Html``, which the functions of this module return.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from urllib.parse import quote as quote_path


class Html(str):
    """A text that is HTML already and must not be escaped."""


class Section(NamedTuple):
    """A section of a page.

    Attributes:
        title: the table of contents links to it.
        blocks: HTML below the title.
        narrow: whether another such section stands beside it, if the page is wide enough.
    """

    title: str
    blocks: Sequence[Html]
    narrow: bool = False


# Light and dark colours, by the reader's preference. Tables have the width of the window, and scroll in a box
# of their own where that is too little; sentences are as long as one reads well.
STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c1c1c; --faint: #636363; --line: #ddd;
  --link: #0060a8 }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16181b; --ink: #e4e4e4; --faint: #a2a2a2; --line: #3a3d42; --link: #7cc0f5 }
}
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1rem; max-width: 120rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: break-word }
h1 { font-size: clamp(1.25rem, 5vw, 1.6rem); line-height: 1.2; margin: 0.5rem 0 }
h2 { font-size: 1.2rem; margin: 2.2rem 0 0.4rem; padding-top: 0.7rem; border-top: 1px solid var(--line) }
h3 { font-size: 1rem; margin: 1.2rem 0 0.4rem }
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
.named th:first-child, .named td:first-child { position: sticky; left: 0; background: var(--paper);
  min-width: 6rem; max-width: 16rem }
@media (min-width: 50rem) { .named th:first-child { min-width: 11rem } }
.named td:not(.number) { white-space: normal }
.named th { white-space: normal; vertical-align: bottom; min-width: 4.2rem }
main { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 36rem), 1fr)); gap: 0 2rem }
section { grid-column: 1 / -1; min-width: 0 }
section.narrow { grid-column: auto }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 0 1.5rem }
pre { margin: 0; font-size: 0.85rem; line-height: 1.4 }
.quote { border-left: 3px solid var(--line); padding-left: 0.8rem; margin: 1rem 0; max-width: 44rem }
.quote p { white-space: pre-wrap; margin: 0.2rem 0 }
@media print { details::details-content { content-visibility: visible } }
"""


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """A complete page.

    Args:
        title: the title.
        lead: a sentence below the title.
        sections: the sections in their order.
    """
    links = (f'<a href="#part-{i}">{html.escape(section.title)}</a>' for i, section in enumerate(sections))
    body = "\n".join(
        f"<section{' class=narrow' if section.narrow else ''}>\n"
        f'<h2 id="part-{i}">{html.escape(section.title)}</h2>\n' + "\n".join(section.blocks) + "\n</section>"
        for i, section in enumerate(sections)
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{html.escape(title)}</h1>\n{paragraph(lead)}\n<nav>{''.join(links)}</nav>\n<main>\n{body}\n</main>\n"
        "</body>\n</html>\n"
    )


def paragraph(text: str, faint: bool = False) -> Html:
    """A paragraph of text; ``faint`` marks it as a remark."""
    return Html(f"<p{' class=faint' if faint else ''}>{escaped(text)}</p>")


def table(head: Sequence[str], lines: Iterable[Sequence[str]], texts: int = 1, named: bool = False) -> Html:
    """A table whose first ``texts`` columns are text; the others are numbers, aligned to the right.

    Args:
        head: the headings of the columns.
        lines: the lines of cells.
        named: whether the first column names the lines, so that it stays visible when the others scroll.
    """

    def row(kind: str, cells: Sequence[str]) -> str:
        opened = (f"<{kind}{' class=number' if i >= texts else ''}>" for i in range(len(cells)))
        return f"<tr>{''.join(f'{tag}{escaped(cell)}</{kind}>' for tag, cell in zip(opened, cells))}</tr>"

    body = "\n".join(row("td", line) for line in lines)
    inner = f"<thead>{row('th', head)}</thead>\n<tbody>\n{body}\n</tbody>"
    return Html(f'<div class="wide"><table{" class=named" if named else ""}>\n{inner}</table></div>')


def drawing(svg: str, caption: str) -> Html:
    """A figure from ``mpt.render.plots.inline`` with a caption below it."""
    caption = f"<figcaption>{escaped(caption)}</figcaption>"
    return Html(f'<figure><div class="wide">{svg}</div>{caption}</figure>')


def folded(summary: str, blocks: Sequence[Html], opened: bool = False) -> Html:
    """Content that opens and closes by a click on its summary."""
    start = f"<details{' open' if opened else ''}><summary>{escaped(summary)}</summary>"
    return Html(f"{start}{''.join(blocks)}</details>")


def grid(blocks: Sequence[Html]) -> Html:
    """Blocks side by side, if the page is wide enough."""
    return Html(f'<div class="grid">{"".join(blocks)}</div>')


def quote(*lines: str) -> Html:
    """A quotation of several lines, whose line breaks are kept."""
    return Html(f'<div class="quote">{"".join(f"<p>{escaped(line)}</p>" for line in lines)}</div>')


def listing(text: str) -> Html:
    """The text of a file, preformatted."""
    return Html(f'<div class="wide"><pre>{escaped(text)}</pre></div>')


def heading(text: str) -> Html:
    """A heading within a section."""
    return Html(f"<h3>{escaped(text)}</h3>")


def strong(text: str) -> Html:
    """Emphasised text."""
    return Html(f"<strong>{escaped(text)}</strong>")


def faint(text: str) -> Html:
    """Text in a faint colour, for remarks."""
    return Html(f'<span class="faint">{escaped(text)}</span>')


def link(text: str, to: str) -> Html:
    """A link to another file, by its path relative to the page."""
    return Html(f'<a href="{html.escape(quote_path(to))}">{escaped(text)}</a>')


def escaped(text: str) -> str:
    """Escapes a text, unless it is HTML already."""
    return text if isinstance(text, Html) else html.escape(text)
