"""The trained modules: prompts of many methods, with one interface, ``prefix``.

A prompt module's parameters are the only thing that training changes. ``prefix`` gives a batch's
prompts, [J, P, D], and which of them each row reads; joining them to the input is the backbone's
business. Plain prompts, which look at no text, have ``compose`` as well: one prompt per task.
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
