"""Sharding: the mesh of devices, and the one table that maps logical axes to axes of the mesh.

``data`` and ``fsdp`` split the rows of a batch. ``fsdp`` also splits the frozen weights, which are gathered
layer by layer when they are needed. ``tensor`` splits heads, feed-forward units and vocabulary, so that
several devices compute each layer jointly. On one device there is no mesh, and nothing here has an effect.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from mpt.config.options import MeshConfig
from mpt.errors import UserError
from mpt.types import Batch, Shards

AXES = ("data", "fsdp", "tensor")
ROWS = ("data", "fsdp")  # the axes that split the rows of a batch

# Maps each logical axis to the mesh axis that splits it; logical axes that are missing here are replicated.
RULES = {
    "embed": "fsdp",
    "encoded": "fsdp",
    "heads": "tensor",
    "kv_heads": "tensor",
    "mlp": "tensor",
    "dense_mlp": "tensor",
    "vocab": "tensor",
    "per_layer_vocab": "tensor",
    "per_layer_row": "fsdp",
}

# If `tensor` does not divide these, it is an error, as it would save next to nothing; others are replicated.
MUST_DIVIDE = ("heads", "mlp", "dense_mlp")

Tree = TypeVar("Tree")


def mesh_sizes(config: MeshConfig, devices: int) -> dict[str, int]:
    """The size of each mesh axis on ``devices`` devices; an axis of -1 takes what the others leave.

    Raises:
        UserError: the product of the axes is not the number of devices.

    >>> mesh_sizes(MeshConfig(data=-1, tensor=2), 8)
    {'data': 4, 'fsdp': 1, 'tensor': 2}
    """
    requested = {axis: getattr(config, axis) for axis in AXES}
    taken = math.prod(size for size in requested.values() if size > 0)
    sizes = {axis: size if size > 0 else max(devices // taken, 1) for axis, size in requested.items()}
    if (needed := math.prod(sizes.values())) != devices:
        raise UserError(f"mesh {mesh_name(sizes)} needs {needed} devices, there are {devices}")
    return sizes


def mesh_name(sizes: Mapping[str, int]) -> str:
    """A mesh in words.

    >>> mesh_name({"data": 4, "fsdp": 1, "tensor": 2})
    'data 4 × fsdp 1 × tensor 2'
    """
    return " × ".join(f"{axis} {size}" for axis, size in sizes.items())


def sizes_in_use() -> dict[str, int]:
    """The size of each axis of the current mesh; 1 on one device."""
    mesh = mesh_in_use()
    return dict.fromkeys(AXES, 1) if mesh is None else dict(mesh.shape)


def spec(axes: tuple[str, ...], shape: tuple[int, ...], sizes: Mapping[str, int]) -> PartitionSpec:
    """The partition of an array: for each of its axes, the mesh axis that splits it, or None.

    Vectors are not split over ``fsdp``: gathering them would take longer than it is worth.

    Args:
        axes: the logical names of the array's axes.
        shape: their lengths.
        sizes: the size of each mesh axis.

    Raises:
        UserError: ``tensor`` does not divide the heads or the feed-forward.

    >>> tuple(spec(("embed", "kv_heads", "head_dim"), (32, 2, 8), {"data": 1, "fsdp": 2, "tensor": 4}))
    ('fsdp', None, None)
    """
    vector = len([axis for axis in axes if axis != "layer"]) < 2

    def over(axis: str, length: int) -> str | None:
        mesh_axis = RULES.get(axis)
        if mesh_axis is None or sizes[mesh_axis] == 1 or (vector and mesh_axis == "fsdp"):
            return None
        if length % sizes[mesh_axis] == 0:
            return mesh_axis
        if axis in MUST_DIVIDE:
            raise UserError(
                f"mesh: {mesh_axis} {sizes[mesh_axis]} does not divide the model's {length} "
                f"{'heads' if axis == 'heads' else 'feed-forward units'}; choose a divisor of it"
            )
        return None

    return PartitionSpec(*map(over, axes, shape))


def mesh_in_use() -> Mesh | None:
    """The mesh that the current recipe runs on; None on one device."""
    mesh = jax.sharding.get_mesh()
    return None if mesh.empty else mesh


def on_one_device() -> bool:
    """Whether there is no mesh; this also works inside compiled functions."""
    return jax.sharding.get_abstract_mesh().empty


def weight_shardings() -> Callable[[tuple[str, ...], tuple[int, ...]], NamedSharding] | None:
    """A function from a weight's logical axes and shape to its sharding; None on one device."""
    mesh = mesh_in_use()
    return mesh and (lambda axes, shape: NamedSharding(mesh, spec(axes, shape, mesh.shape)))


def by_tensor(x: jax.Array, *axes: str) -> jax.Array:
    """Constrains ``x`` to be split over ``tensor`` only, which gathers it over ``fsdp``.

    Args:
        axes: the logical names of the last axes of ``x``; the axes before them are replicated.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    partition = spec(axes, x.shape[x.ndim - len(axes) :], {**mesh.shape, "fsdp": 1})
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*[None] * (x.ndim - len(axes)), *partition))


def kv_copies(kv_heads: int) -> int:
    """How often each KV head must be repeated so that `tensor` divides the number of KV heads.

    This is the smallest such number. Since `tensor` and the KV heads both divide the number of heads, so does
    the repeated number of KV heads.
    """
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if mesh.empty else math.lcm(kv_heads, mesh.shape["tensor"]) // kv_heads


def each_shard(function: Callable[[Any, Batch], Tree]) -> Callable[[Any, Batch], Tree]:
    """Maps ``function`` over the shards of a batch; its results get a leading axis of shards."""
    if on_one_device():
        return function
    return jax.vmap(function, in_axes=(None, 0), spmd_axis_name=ROWS)


def over_shards(results: Tree) -> Tree:
    """Sums results over their leading axis of shards; this is where devices communicate."""
    return results if on_one_device() else jax.tree.map(lambda x: x.sum(axis=0), results)


def local_shards() -> Shards | None:
    """The shards of each batch that the devices of this process read; None on one device."""
    if (mesh := mesh_in_use()) is None:
        return None
    devices = mesh.devices.reshape(-1, mesh.shape["tensor"])
    is_local = [any(device.process_index == jax.process_index() for device in row) for row in devices]
    return Shards(tuple(i for i, local in enumerate(is_local) if local), len(devices))


def global_batch(batch: Batch) -> Batch:
    """Makes the global batch from the shards that each process has read, and puts them on its devices."""
    if (mesh := mesh_in_use()) is None:
        return batch
    sharding = NamedSharding(mesh, PartitionSpec(None, ROWS))
    count = mesh.shape["data"] * mesh.shape["fsdp"]

    def deal(array: Any) -> jax.Array:
        global_shape = (array.shape[0], count, *array.shape[2:])
        return jax.make_array_from_process_local_data(sharding, array, global_shape)

    return jax.tree.map(deal, batch)


def replicated_over_mesh(tree: Tree) -> Tree:
    """Replicates arrays that are not on the mesh yet over all its devices."""
    if (mesh := mesh_in_use()) is None:
        return tree
    replicated = NamedSharding(mesh, PartitionSpec())

    def place(x: jax.Array) -> jax.Array:
        on_mesh = isinstance(x.sharding, NamedSharding) and x.sharding.mesh == mesh
        return x if on_mesh else jax.device_put(x, replicated)

    return jax.tree.map(place, tree)


def shardings_of(tree: Any) -> tuple[Sharding, ...] | None:
    """The shardings of a tree's arrays on the current mesh; None on one device."""
    return None if mesh_in_use() is None else tuple(leaf.sharding for leaf in jax.tree.leaves(tree))


def constrain(tree: Tree, shardings: tuple[Sharding, ...] | None) -> Tree:
    """Constrains the arrays of a tree, inside a compiled function, to the shardings from ``shardings_of``."""
    if shardings is None:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    return structure.unflatten(map(jax.lax.with_sharding_constraint, leaves, shardings))


def replicate(x: jax.Array) -> jax.Array:
    """Replicates ``x`` over all devices, so that every process can read it."""
    return x if on_one_device() else jax.lax.with_sharding_constraint(x, PartitionSpec())


@runtime_checkable
class Meshed(Protocol):
    """A config with options for the mesh that its run uses."""

    @property
    def mesh(self) -> MeshConfig: ...


def use_mesh(config: MeshConfig) -> contextlib.AbstractContextManager:
    """A context in which the mesh that ``config`` describes is in use; on one device, none is."""
    sizes = mesh_sizes(config, jax.device_count())
    if math.prod(sizes.values()) == 1:
        return contextlib.nullcontext()
    mesh = jax.make_mesh(tuple(sizes.values()), AXES, axis_types=(AxisType.Auto,) * len(AXES))
    return jax.set_mesh(mesh)


def on_mesh(recipe: Callable[..., Tree]) -> Callable[..., Tree]:
    """Decorates a recipe so that it runs on the mesh of its config, the first argument."""

    @functools.wraps(recipe)
    def run(config: Meshed, *rest: Any) -> Tree:
        with use_mesh(config.mesh):
            return recipe(config, *rest)

    return run
