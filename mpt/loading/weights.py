"""Loads the tensors of a checkpoint into a backbone, strictly: all of them, each once, in the right shape.

Tensors are read one at a time and written directly into the (stacked, sharded) weights, so that no more than
one tensor is in memory in addition to the model.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from einops import EinopsError, rearrange
from flax import nnx
from jaxtyping import Array, Int

from mpt.errors import UserError

Model = TypeVar("Model", bound=nnx.Module)

# Maps a name in the checkpoint, with "{}" for the layer (and one more for the expert), to a path in the model
# and an einops pattern; or to None for a tensor that is not needed. If there are several paths, they share
# its axis "x", or an axis of which "x" is the outer part: one after another, each has as many of its places
# as it is long.
Table = Mapping[str, tuple[str, str] | None]

# Of a stack that the table names, each layer's stack and its place there, where layers are of several kinds.
Places = Mapping[str, Sequence[tuple[str, int]]]

# A function from a weight's logical axes and shape to its sharding.
Shardings = Callable[[tuple[str, ...], tuple[int, ...]], jax.sharding.Sharding]


@runtime_checkable
class Tensors(Protocol):
    """A checkpoint whose tensors are read by name, when they are needed."""

    def __iter__(self) -> Iterator[str]: ...

    def __getitem__(self, name: str) -> np.ndarray: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def file(self, name: str) -> Path: ...


class Part(NamedTuple):
    """The places from one to before another on an axis of a tensor, after its layout."""

    axis: int
    first: int
    last: int


class Source(NamedTuple):
    """The tensor, or the part of one, that a weight or one layer or expert of it comes from."""

    name: str
    layout: str
    part: Part | None = None


# The sources of each target, by layer and expert: by nothing for weights outside the layers.
Sources = dict[str, dict[tuple[int, ...], Source]]


def load_weights(
    model: Model,
    tensors: Tensors,
    table: Table,
    sizes: Mapping[str, Mapping[str, int]],
    where: Path,
    shardings: Shardings | None = None,
    places: Places | None = None,
) -> Model:
    """Fills an abstract model from a checkpoint.

    Args:
        model: a model whose weights have only shapes (``nnx.eval_shape``).
        tensors: the checkpoint.
        table: maps the names of the checkpoint to those of the model.
        sizes: the lengths of axes that the patterns of the table need, for each stack of layers.
        where: the file or folder, for error messages.
        shardings: gives the sharding of each weight; None for the default device.
        places: where the layers of a stack of the table are, if not all in one stack of that name.

    Raises:
        UserError: tensors are missing, left over, of the wrong shape or not finite; the error names them and
            their files.
    """
    graph, state = nnx.split(model)
    targets = {".".join(map(str, path)): leaf for path, leaf in nnx.to_flat_state(state)}
    places = places or {}
    sources, faults = _sources(tensors, table, targets, places)
    faults += _missing(sources, table, targets, places) + _misshapen(sources, tensors, targets, sizes)
    if faults:
        more = f"; and {len(faults) - 8} more" if len(faults) > 8 else ""
        raise UserError(f"{where}: {'; '.join(faults[:8])}{more}")

    def fill(target: str, leaf: nnx.Variable) -> nnx.Variable:
        sharding = shardings(leaf.axes, leaf.shape) if shardings else None
        value = jnp.zeros(leaf.shape, leaf.dtype, device=sharding)
        for index, (name, layout, part) in sources[target].items():
            lengths = tuple(_lengths(layout, target, sizes).items())
            value = _write(value, tensors[name], index, layout, lengths, part, sharding)
            value.block_until_ready()  # else tensors are read faster than written, and fill the memory
        if not _is_finite(value):
            names = [s.name for s in sources[target].values() if not _is_finite(jnp.asarray(tensors[s.name]))]
            which = f"'{names[0]}' in {tensors.file(names[0]).name}" if names else f"{target} in {leaf.dtype}"
            raise UserError(f"{where}: {which} has values that are not finite numbers; fetch it again")
        return leaf.replace(value)

    leaves = {path: fill(".".join(map(str, path)), leaf) for path, leaf in nnx.to_flat_state(state)}
    return nnx.merge(graph, nnx.from_flat_state(leaves))


@jax.jit
def _is_finite(value: Array) -> Array:
    return jnp.isfinite(value).all()


@functools.partial(
    jax.jit, static_argnames=("layout", "lengths", "part", "sharding"), donate_argnames="value"
)
def _write(
    value: Array,
    tensor: Array,
    index: tuple[int | Int[Array, ""], ...],
    layout: str,
    lengths: tuple[tuple[str, int], ...],
    part: Part | None,
    sharding: jax.sharding.Sharding | None,
) -> Array:
    """Writes a tensor, or part ``part`` of it, into a weight or one layer or expert of it, in place."""
    arranged = jnp.asarray(rearrange(tensor, layout, **dict(lengths)), value.dtype)
    if part is not None:
        arranged = jax.lax.slice_in_dim(arranged, part.first, part.last, axis=part.axis)
    if index:  # not .at[].set(), whose scatter copies the array
        start, update = (*index, *(0,) * arranged.ndim), arranged.reshape((1,) * len(index) + arranged.shape)
        arranged = jax.lax.dynamic_update_slice(value, update, start)
    return arranged if sharding is None else jax.lax.with_sharding_constraint(arranged, sharding)


def _sources(
    tensors: Tensors, table: Table, targets: Mapping[str, nnx.Variable], places: Places
) -> tuple[Sources, list[str]]:
    """The sources of each target, and an error text for each tensor that does not fit."""
    patterns = [(re.compile(re.escape(name).replace(r"\{\}", r"(\d+)")), to) for name, to in table.items()]
    sources: Sources = {target: {} for target in targets}
    faults = []
    for name in tensors:
        if table.get(name, "") is None:  # this one, though a pattern fits it
            continue
        match, to = next(
            ((m, to) for pattern, to in patterns if (m := pattern.fullmatch(name))), (None, None)
        )
        if match and to is None:
            continue
        paths, layout = (to[0].split(), to[1]) if to else ([], "")
        index: tuple[int, ...] = tuple(map(int, match.groups())) if match else ()
        stack = paths[0].split(".")[0] if paths else ""
        if stack in places:
            layer, *rest = list(index)
            if layer >= len(places[stack]):
                faults.append(f"'{name}' in {tensors.file(name).name} is of a layer beyond the config's")
                continue
            kind, place = places[stack][layer]
            paths, index = [f"{kind}.{path.partition('.')[2]}" for path in paths], (place, *rest)
        if not paths or not all(path in targets for path in paths):
            faults.append(f"'{name}' in {tensors.file(name).name} has no place in the model")
        elif index and any(i >= count for i, count in zip(index, targets[paths[0]].shape)):
            which = "an expert" if index[0] < targets[paths[0]].shape[0] else "a layer"
            faults.append(f"'{name}' in {tensors.file(name).name} is of {which} beyond the config's")
        elif index in sources[paths[0]]:
            faults.append(f"'{name}' and '{sources[paths[0]][index].name}' are the same weight")
        else:
            shapes = [targets[path].shape[len(index) :] for path in paths]
            for path, part in zip(paths, _parts(layout, shapes)):
                sources[path][index] = Source(name, layout, part)
    return sources, faults


def _parts(layout: str, shapes: Sequence[tuple[int, ...]]) -> list[Part | None]:
    """The parts of one tensor that weights of these shapes are."""
    if len(shapes) == 1:
        return [None]
    axes = re.findall(r"\([^)]*\)|\w+", layout.split("->")[1])
    (axis,) = (i for i, names in enumerate(axes) if re.search(r"\bx\b", names))
    ends = list(itertools.accumulate((shape[axis] for shape in shapes), initial=0))
    return [Part(axis, first, last) for first, last in itertools.pairwise(ends)]


def _missing(
    sources: Sources, table: Table, targets: Mapping[str, nnx.Variable], places: Places
) -> list[str]:
    names: dict[str, list[str]] = {}
    for name, to in table.items():
        for path in to[0].split() if to else ():
            stack, _, weight = path.partition(".")
            for kind in dict(places[stack]) if stack in places else [stack]:
                names.setdefault(f"{kind}.{weight}", []).append(name)
    number = {place: i for layers in places.values() for i, place in enumerate(layers)}
    absent = {}  # a fused tensor is missed by several targets
    for path, leaf in targets.items():
        for index in np.ndindex(leaf.shape[: names[path][0].count("{}")]):
            if index not in sources[path]:
                own = (number.get((path.partition(".")[0], index[0]), index[0]), *index[1:]) if index else ()
                absent[" or ".join(f"'{name.format(*own)}'" for name in names[path])] = True
    return [f"{name} is missing" for name in absent]


def _misshapen(
    sources: Sources,
    tensors: Tensors,
    targets: Mapping[str, nnx.Variable],
    sizes: Mapping[str, Mapping[str, int]],
) -> list[str]:
    """An error text for each tensor whose shape is not that of the weights which it fills together."""
    faults, whole = {}, _together(sources)
    for target, found in sources.items():
        for index, (name, layout, part) in found.items():
            expected = targets[target].shape[len(index) :]
            if part is not None:
                expected = (*expected[: part.axis], whole[name], *expected[part.axis + 1 :])
            shape = tensors.shape(name)
            stand_in = np.broadcast_to(np.int8(0), shape)
            try:
                arranged = rearrange(stand_in, layout, **_lengths(layout, target, sizes)).shape
            except EinopsError:
                arranged = None
            if arranged != expected:
                faults[name] = (
                    f"'{name}' in {tensors.file(name).name} has shape {shape}, "
                    f"the config asks for {expected} laid out as '{layout}'"
                )
    return list(faults.values())


def _together(sources: Sources) -> dict[str, int]:
    """The length of the axis that several weights share, of each tensor that has one."""
    found: dict[str, int] = {}
    for layers in sources.values():
        for name, _, part in layers.values():
            if part is not None:
                found[name] = max(found.get(name, 0), part.last)
    return found


def _lengths(layout: str, target: str, sizes: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """The sizes, in the stack of a target, of those axes that a pattern names."""
    own = sizes.get(target.partition(".")[0], {})
    return {name: size for name, size in own.items() if re.search(rf"\b{name}\b", layout)}
