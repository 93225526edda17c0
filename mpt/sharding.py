"""Where arrays live: a mesh of devices, and one table from logical axes to the mesh's.

``data`` and ``fsdp`` deal out a batch's rows. ``fsdp`` deals out the frozen weights as well: a layer's
come together when it is computed. ``tensor`` deals out heads, feed-forward and vocabulary, so that
several devices compute a layer together. On one device there is no mesh, and nothing here does anything.
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
ROWS = ("data", "fsdp")  # between them they deal out a batch's rows

# From a logical axis to the mesh axis that it is dealt out over; those not named here stay whole.
RULES = {"embed": "fsdp", "heads": "tensor", "kv_heads": "tensor", "mlp": "tensor", "vocab": "tensor"}

# Where these do not divide, `tensor` would save next to nothing; the others then stay whole.
MUST_DIVIDE = ("heads", "mlp")

Tree = TypeVar("Tree")


def mesh_sizes(config: MeshConfig, devices: int) -> dict[str, int]:
    """The length of each mesh axis on so many devices; one axis of -1 takes what the others leave.

    >>> mesh_sizes(MeshConfig(data=-1, tensor=2), 8)
    {'data': 4, 'fsdp': 1, 'tensor': 2}
    """
    asked = {axis: getattr(config, axis) for axis in AXES}
    taken = math.prod(size for size in asked.values() if size > 0)
    sizes = {axis: size if size > 0 else max(devices // taken, 1) for axis, size in asked.items()}
    if (needed := math.prod(sizes.values())) != devices:
        shape = " × ".join(f"{axis} {size}" for axis, size in sizes.items())
        raise UserError(f"mesh {shape} needs {needed} devices, there are {devices}")
    return sizes


def spec(axes: tuple[str, ...], shape: tuple[int, ...], sizes: Mapping[str, int]) -> PartitionSpec:
    """The mesh axis that each axis of an array is dealt out over.

    Vectors are not dealt out over ``fsdp``: bringing them together takes longer than keeping them.

    Args:
        axes: the names of the array's axes.
        shape: their lengths.
        sizes: the length of each mesh axis.

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
    """The mesh that a recipe runs on; None on one device."""
    mesh = jax.sharding.get_mesh()
    return None if mesh.empty else mesh


def on_one_device() -> bool:
    """Whether there is no mesh; to be asked inside of what is compiled, too."""
    return jax.sharding.get_abstract_mesh().empty


def weight_shardings() -> Callable[[tuple[str, ...], tuple[int, ...]], NamedSharding] | None:
    """From a weight's logical axes and shape to where it lives on the mesh in use."""
    mesh = mesh_in_use()
    return mesh and (lambda axes, shape: NamedSharding(mesh, spec(axes, shape, mesh.shape)))


def by_tensor(x: jax.Array, *axes: str) -> jax.Array:
    """``x`` dealt out over ``tensor`` alone, and so brought together over ``fsdp``.

    Args:
        axes: the names of its last axes; all before them stay as they are.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    own = spec(axes, x.shape[x.ndim - len(axes) :], {**mesh.shape, "fsdp": 1})
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*[None] * (x.ndim - len(axes)), *own))


def kv_copies(kv_heads: int) -> int:
    """How often each KV head is repeated, so that `tensor` divides their number.

    It is the least that will do: as `tensor` and the KV heads both divide the heads, so does the result.
    """
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if mesh.empty else math.lcm(kv_heads, mesh.shape["tensor"]) // kv_heads


def each_shard(function: Callable[[Any, Batch], Tree]) -> Callable[[Any, Batch], Tree]:
    """``function`` of every shard of a batch at once; its results have a leading axis of shards."""
    if on_one_device():
        return function
    return jax.vmap(function, in_axes=(None, 0), spmd_axis_name=ROWS)


def over_shards(results: Tree) -> Tree:
    """The sum of the shards' results: here they cross the network."""
    return results if on_one_device() else jax.tree.map(lambda each: each.sum(axis=0), results)


def own_shards() -> Shards | None:
    """The shards of each batch that this process's devices read; None on one device."""
    if (mesh := mesh_in_use()) is None:
        return None
    devices = mesh.devices.reshape(-1, mesh.shape["tensor"])
    here = [any(device.process_index == jax.process_index() for device in row) for row in devices]
    return Shards(tuple(i for i, own in enumerate(here) if own), len(devices))


def dealt(batch: Batch) -> Batch:
    """This process's shards of a batch, on its devices, as its share of the whole batch."""
    if (mesh := mesh_in_use()) is None:
        return batch
    sharding = NamedSharding(mesh, PartitionSpec(None, ROWS))
    count = mesh.shape["data"] * mesh.shape["fsdp"]

    def deal(array: Any) -> jax.Array:
        whole = (array.shape[0], count, *array.shape[2:])
        return jax.make_array_from_process_local_data(sharding, array, whole)

    return jax.tree.map(deal, batch)


def placed(tree: Tree) -> Tree:
    """Arrays that do not lie on the mesh yet, whole on each of its devices."""
    if (mesh := mesh_in_use()) is None:
        return tree
    everywhere = NamedSharding(mesh, PartitionSpec())

    def place(x: jax.Array) -> jax.Array:
        there = isinstance(x.sharding, NamedSharding) and x.sharding.mesh == mesh
        return x if there else jax.device_put(x, everywhere)

    return jax.tree.map(place, tree)


def homes_of(tree: Any) -> tuple[Sharding, ...] | None:
    """Where each of a tree's arrays lives on the mesh in use; None on one device."""
    return None if mesh_in_use() is None else tuple(leaf.sharding for leaf in jax.tree.leaves(tree))


def kept_at(tree: Tree, homes: tuple[Sharding, ...] | None) -> Tree:
    """A tree that is computed in a compiled function, its arrays where ``homes_of`` says."""
    if homes is None:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    return structure.unflatten(map(jax.lax.with_sharding_constraint, leaves, homes))


def everywhere(x: jax.Array) -> jax.Array:
    """``x`` whole on each device, so that every process can read it."""
    return x if on_one_device() else jax.lax.with_sharding_constraint(x, PartitionSpec())


@runtime_checkable
class Meshed(Protocol):
    """A config of something that runs on a mesh."""

    @property
    def mesh(self) -> MeshConfig: ...


def use_mesh(config: MeshConfig) -> contextlib.AbstractContextManager:
    """Runs a block on the mesh that ``config`` asks for; on one device there is none."""
    sizes = mesh_sizes(config, jax.device_count())
    if math.prod(sizes.values()) == 1:
        return contextlib.nullcontext()
    mesh = jax.make_mesh(tuple(sizes.values()), AXES, axis_types=(AxisType.Auto,) * len(AXES))
    return jax.set_mesh(mesh)


def on_mesh(recipe: Callable[..., Tree]) -> Callable[..., Tree]:
    """A recipe that runs on the mesh of its config."""

    @functools.wraps(recipe)
    def run(config: Meshed, *rest: Any) -> Tree:
        with use_mesh(config.mesh):
            return recipe(config, *rest)

    return run
