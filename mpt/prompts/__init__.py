"""What is trained: soft prompts behind one method, ``compose``.

A prompt module's parameters are the only thing that training changes. ``compose()`` gives one
ready prompt per task, [J, P, D]; joining it to the input is the backbone's business.
"""

from mpt.prompts.initial import text_rows, vocabulary_rows
from mpt.prompts.multitask import MultitaskPrompt
from mpt.prompts.soft import Prompt, PromptParam, SoftPrompt

__all__ = [
    "MultitaskPrompt",
    "Prompt",
    "PromptParam",
    "SoftPrompt",
    "text_rows",
    "vocabulary_rows",
]
