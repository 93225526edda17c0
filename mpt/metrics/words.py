"""The words of a text in any script."""

from __future__ import annotations

import re
import unicodedata

# Scripts that put no blanks between words: Thai, Lao, Tibetan, Burmese, Khmer, Chinese and Japanese.
UNSPACED = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


def spaced(text: str) -> str:
    """A text with blanks around each character of a script that has none between its words.

    >>> spaced("JAX は速い").split()
    ['JAX', 'は', '速', 'い']
    """
    return UNSPACED.sub(r" \g<0> ", text)


def words(text: str) -> list[str]:
    """Runs of letters, with their marks, and digits, in lower case; and pictures, each for itself.

    Of English text these are the words of the original ROUGE: runs of a-z and 0-9.

    >>> words("The U.S. Army's हिन्दी 速い!")
    ['the', 'u', 's', 'army', 's', 'हिन्दी', '速', 'い']
    """
    return "".join(map(_kept, spaced(text.lower()))).split()


def _kept(character: str) -> str:
    kind = unicodedata.category(character)
    return character if kind[0] in "LMN" else f" {character} " if kind == "So" else " "
