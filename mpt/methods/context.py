"""Context tuning (Lu et al., 2025, arXiv:2507.04221): trained keys and values that start as examples.

The prefix starts as the keys and values of the instruction and of training examples, as in-context learning
has them, and is then trained on the training rows. A row that attended to its own copy in the prefix would
learn to copy its answer from there. So while training, each row's copy is hidden from it (leave-one-out
masking), and positions drawn at random are hidden too (token dropout). Afterwards, nothing is hidden.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt
from transformers import PreTrainedTokenizerBase

from mpt.config.methods import ContextConfig
from mpt.data.task import Task
from mpt.data.tokenise import check_ids, token_ids
from mpt.methods.examples import Context, in_context
from mpt.methods.prefix import PrefixPrompt
from mpt.methods.record import Method, Start
from mpt.methods.setting import Setting
from mpt.models.backbone import Backbone
from mpt.models.layers import Weight
from mpt.prompts.prompted import Prompted
from mpt.training.stage import Lengths
from mpt.types import Batch, Row


class ContextPrefix(PrefixPrompt):
    """A prefix that knows where it has copies of training rows. It is saved as a ``PrefixPrompt``.

    Args:
        keys: initial keys, [J, layers, P, K, H].
        values: initial values, of the same shape.
        copies: the fingerprint of each example, [J, E].
        spans: the first position of each example in the prefix, and the one after its last, [J, E, 2]; they
            are equal where a prefix has fewer examples.
        dropout: the probability with which a position is hidden from a row in a training step.
    """

    def __init__(
        self,
        keys: Float[Array, "J layers P K H"],
        values: Float[Array, "J layers P K H"],
        copies: UInt[Array, "J E"],
        spans: Int[Array, "J E 2"],
        dropout: float = 0.0,
    ):
        super().__init__(keys, values)
        self.copies, self.spans, self.dropout = Weight(copies), Weight(spans), dropout

    @classmethod
    def of(
        cls,
        backbone: Backbone,
        contexts: Sequence[Context],
        rows: Sequence[Sequence[Row]],
        dropout: float = 0.0,
    ) -> ContextPrefix:
        """A prefix that is equivalent to texts of examples, cut at the front to the length of the shortest.

        Args:
            rows: the rows that each text's examples are.

        Raises:
            UserError: the backbone is an encoder-decoder, or has layers of several kinds.
        """
        length = min(len(context.ids) for context in contexts)
        ids = jnp.asarray([context.ids[-length:] for context in contexts])
        most = max(len(context.spans) for context in contexts)
        copies, spans = np.zeros((len(ids), most), np.uint32), np.zeros((len(ids), most, 2), np.int32)
        for prompt, (context, its_rows) in enumerate(zip(contexts, rows)):
            for place, (row, span) in enumerate(context.spans.items()):
                copies[prompt, place] = fingerprint(its_rows[row])
                spans[prompt, place] = np.maximum(np.array(span) - (len(context.ids) - length), 0)
        whole = PrefixPrompt.from_tokens(backbone, ids)
        kv = whole.keys[...], whole.values[...]
        return cls(*kv, jnp.asarray(copies), jnp.asarray(spans), dropout)

    def hiding(self, rows: Sequence[Sequence[Row]]) -> Callable[[Batch], Batch]:
        """The function that hides from each row of a batch its copy in the prefix, and random positions.

        What is drawn depends on the batch alone, so that a resumed training draws the same.

        Args:
            rows: all training rows of each prompt.
        """
        copies, of_copies = np.asarray(self.copies[...]), np.asarray(self.spans[...])
        length = self.keys.shape[2]

        def span(prompt: int, row: Row) -> Int[np.ndarray, " 2"]:
            """The positions of a row's copy in a prefix; none where it has no copy."""
            same = copies[prompt] == fingerprint(row)
            return of_copies[prompt, same.argmax()] if same.any() else np.zeros(2, np.int32)

        spans = np.array([span(prompt, row) for prompt, each in enumerate(rows) for row in each])

        def hide(batch: Batch) -> Batch:
            numbers = np.asarray(batch.numbers)
            positions = np.arange(length)
            own = (spans[numbers, :1] <= positions) & (positions < spans[numbers, 1:])
            dropped = np.random.default_rng(numbers.ravel()).random(own.shape) < self.dropout
            return batch._replace(hidden=own | dropped)  # type: ignore[arg-type]

        return hide


def fingerprint(row: Row) -> int:
    """A number that tells rows of different tokens apart."""
    return zlib.crc32(np.array([*row.inputs, -1, *row.targets], np.int32).tobytes())


def start(setting: Setting) -> Start:
    """The untrained prefix is equivalent to the instruction and examples in context.

    Raises:
        UserError: not one example fits, the backbone is an encoder-decoder, or it has layers of several
            kinds.
    """
    options: ContextConfig = setting.options
    backbone = setting.pretrained.backbone
    rows = [[] if isinstance(each, Lengths) else each for each in setting.rows]
    contexts = [_context(setting, index) for index in range(len(rows))]
    prompt = ContextPrefix.of(backbone, contexts, rows, options.dropout)
    return Start(Prompted(backbone, prompt), "examples in context", weight_rate=options.rate)


def _context(setting: Setting, index: int) -> Context:
    """The instruction and examples of a prompt; for a plan, about as many tokens."""
    options, pretrained = setting.options, setting.pretrained
    task, rows, seed = setting.tasks[index], setting.rows[index], setting.seeds[index]
    tokenizer, bos = pretrained.tokenizer, pretrained.bos
    if isinstance(rows, Lengths):
        return Context([0] * min(about(task, rows, tokenizer), options.tokens), {})
    context = in_context(task, rows, tokenizer, options.tokens, seed, bos, "context.tokens")
    width = pretrained.backbone.embedding.shape[0]
    check_ids(context.ids, tokenizer, width, f"task {task.name}")
    return context


def about(task: Task, lengths: Lengths, tokenizer: PreTrainedTokenizerBase) -> int:
    """About how many tokens the instruction and all examples have, the number of which must be known."""
    assert lengths.rows is not None
    instruction, lines = token_ids(tokenizer, [task.hard_prompt, "\n\n"])
    return len(instruction) + round(lengths.rows * (lengths.text + 1 + len(lines)))


def keep(model: Prompted) -> PrefixPrompt:
    """The prefix alone: in use, nothing of it is hidden."""
    assert isinstance(model.prompt, PrefixPrompt)
    return PrefixPrompt(model.prompt.keys[...], model.prompt.values[...])


METHOD = Method("context", "context tuning", start, ContextConfig, ("rate",), keep=keep)
