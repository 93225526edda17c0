"""Losses and their gradients in torch, of the naive formulation.

Naive: every row by itself, its prompt in front of its embeddings, no padding, logits everywhere.
"""

from __future__ import annotations

import torch

from golden.inputs import LOSS_ROWS, TASKS, WEIGHTS, R, parts
from golden.references import model_of
from golden.registry import Arrays, arrays
from mpt.types import Row


@arrays("task", "distillation", "retention")
def losses(kind: str) -> Arrays:
    """The loss, and its gradient for each part of the prompt that it is a function of."""
    model = model_of("toy-llama")
    leaves = {name: torch.tensor(part, requires_grad=name != "teachers") for name, part in parts().items()}
    if kind == "task":
        leaves = {"vectors": leaves["teachers"].requires_grad_()}
        loss = _task_loss(model, leaves["vectors"], TASKS)
    else:
        low_rank = sum(leaves["u"][:, :, r, None] * leaves["v"][:, r, None, :] for r in range(R))
        loss = {"distillation": _distillation_loss, "retention": _retention_loss}[kind](
            model, leaves["shared"] * low_rank, leaves["teachers"]
        )
    loss.backward()
    return {"loss": loss} | {name: leaf.grad for name, leaf in leaves.items() if leaf.requires_grad}


def _distillation_loss(model, students: torch.Tensor, teachers: torch.Tensor) -> torch.Tensor:
    likeness = _likeness(model, students[TASKS], teachers[TASKS])
    return WEIGHTS["task"] * _task_loss(model, students, TASKS) + likeness


def _retention_loss(model, students: torch.Tensor, teachers: torch.Tensor) -> torch.Tensor:
    """Rows, the first of them number 5, read the new task's prompt, 0, and in turn those of two earlier
    tasks, 1 and 2."""
    turn = torch.tensor([1, 0, 1, 0])  # from 5, an odd number, on
    loss = WEIGHTS["task"] * _task_loss(model, students, [0] * len(LOSS_ROWS))
    return loss + _likeness(model, students[1 + turn], teachers[turn])


def _task_loss(model, prompts: torch.Tensor, tasks: list[int]) -> torch.Tensor:
    losses = [
        -_read(model, prompts[task], row)[0].log_softmax(-1)[range(len(row.targets)), row.targets]
        for row, task in zip(LOSS_ROWS, tasks)
    ]
    return torch.cat(losses).mean()


def _likeness(model, students, teachers) -> torch.Tensor:
    """The weighted KL and MSE of what each row's student and teacher make of it."""
    kl, squares = [], []
    for row, student, teacher in zip(LOSS_ROWS, students, teachers):
        logits, hidden = _read(model, student, row)
        with torch.no_grad():
            teacher_logits, teacher_hidden = _read(model, teacher, row)
        p = teacher_logits.softmax(-1)
        kl.append((p * (p.log() - logits.log_softmax(-1))).sum(-1))
        squares.append((hidden - teacher_hidden) ** 2)
    return WEIGHTS["kl"] * torch.cat(kl).mean() + WEIGHTS["hidden"] * torch.cat(squares).mean()


def _read(model, prompt: torch.Tensor, row: Row) -> tuple[torch.Tensor, torch.Tensor]:
    """One row's logits where its targets are predicted, and its text's final hidden states."""
    ids = torch.tensor([*row.inputs, *row.targets[:-1]])
    embeddings = torch.cat([prompt, model.get_input_embeddings()(ids)])[None]
    hidden = model.model(inputs_embeds=embeddings).last_hidden_state[0]
    logits = model.lm_head(hidden)
    first = len(prompt) + len(row.inputs) - 1
    return logits[first : first + len(row.targets)], hidden[len(prompt) :]
