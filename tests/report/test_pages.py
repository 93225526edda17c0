"""Reports in a browser: on a telephone and on a desk, by day and by night."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpt.recipes.inspect import inspect

WIDTHS = (1400, 420)
PARTS = {
    "universal": {"Learning curves", "Cost", "Prompts", "Config", "Made with"},
    "adapted": {
        "Results",
        "Learning curves",
        "Confusion",
        "Mistakes",
        "Cost",
        "Prompts",
        "Config",
        "Made with",
    },
    "compared": {"Results", "Figures", "Confusion", "Mistakes", "Cost", "Runs", "Config", "Made with"},
}


@pytest.mark.full
@pytest.mark.parametrize("kind", PARTS)
def test_page_is_whole_at_any_width_and_in_both_schemes(kind, browser, request):
    made = request.getfixturevalue(kind)
    page: Path = (made[0] if kind == "compared" else made) / "report.html"
    papers = set()
    for scheme in ("light", "dark"):
        for width in WIDTHS:
            seen = browser.see(page, width, scheme)
            assert seen.width <= width
            assert seen.said == []
            assert seen.asked == []
            assert set(seen.titles) == PARTS[kind]
            papers.add((scheme, seen.paper))
    assert len(papers) == 2


@pytest.mark.full
def test_an_inspection_has_two_columns_on_a_desk_and_one_on_a_telephone(universal, browser, tmp_path):
    page = tmp_path / "inspect.html"
    inspect(universal, 4, out=page)
    for width, columns in zip(WIDTHS, (2, 1)):
        seen = browser.see(page, width, "light")
        assert seen.width <= width and seen.columns == columns
