"""The trained modules: prompts of many methods, with one interface, ``prefix``.

Training changes only a prompt module's parameters. ``prefix`` gives a batch's prompts, [J, P, D], and the
index of each row's prompt; the backbone joins them to the input. Plain prompts, which do not depend on the
text, have ``compose`` as well: one prompt per task.
"""

from mpt.prompts.initial import text_rows, vocabulary_rows
from mpt.prompts.multitask import ModulatedPrompt, MultitaskPrompt, Words
from mpt.prompts.prefix import PlainPrompt, Prefix, Prompt
from mpt.prompts.progressive import ProgressivePrompt
from mpt.prompts.soft import PromptParam, SoftPrompt

__all__ = [
    "ModulatedPrompt",
    "MultitaskPrompt",
    "PlainPrompt",
    "Prefix",
    "ProgressivePrompt",
    "Prompt",
    "PromptParam",
    "SoftPrompt",
    "Words",
    "text_rows",
    "vocabulary_rows",
]
