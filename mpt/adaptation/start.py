"""The model that an adaptation starts from."""

from __future__ import annotations

from mpt.errors import UserError
from mpt.methods import METHODS, Setting, Start
from mpt.methods.setting import no_shared_part
from mpt.models.backbone import check_positions
from mpt.training.stage import Lengths


def start(setting: Setting) -> Start:
    """The model before training.

    Raises:
        UserError: something that the method needs is missing, an option is not supported by it, or its rows
            are longer than the backbone's positions.
    """
    method = METHODS[setting.method]
    if (setting.freeze_shared or setting.joint) and not method.has_shared_part:
        raise no_shared_part("freeze_shared" if setting.freeze_shared else "also")
    layer = setting.vectors.layer if method.needs_teachers else setting.layer
    if layer and not method.late:
        *others, last = (name for name, each in METHODS.items() if each.late)
        raise UserError(
            f"method {method.name}: its prompts must be before the first layer, not before layer {layer}; "
            f"only {', '.join(others)} and {last} support vectors.layer"
        )
    if setting.every_layer and not method.every_layer:
        able = " and ".join(name for name, each in METHODS.items() if each.every_layer)
        raise UserError(f"method {method.name}: it cannot start from a prompt in every layer; {able} can")
    inside = setting.pretrained.opening is not None
    if inside and (layer or setting.every_layer or method.name == "prefix"):
        what = f"before layer {layer}" if layer else "as keys and values of every layer"
        raise UserError(
            f"method {method.name}: a prompt inside the user's turn (place) consists of embeddings, and "
            f"cannot enter {what}; leave place out of the task, or use plain vectors"
        )
    begun = method.start(setting)
    here = (row for rows in setting.rows if not isinstance(rows, Lengths) for row in rows)
    targets = (ids for row in here for ids in (row.targets, *row.choices))
    check_positions(begun.model.backbone, begun.model.prompt.extent(1)[1], setting.max_length, targets)
    return begun
