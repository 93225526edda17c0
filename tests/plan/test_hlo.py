"""Programs read from their text: hand-written, and as XLA writes them."""

import jax
import jax.numpy as jnp
import pytest

from mpt.plan.collectives import collective_bytes
from mpt.plan.hlo import Program
from mpt.plan.traffic import cycles, traffic

LOOPS = """HloModule hand_written

%body (p: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {
  %p = (s32[], f32[4,8]{1,0}) parameter(0)
  %x = f32[4,8]{1,0} get-tuple-element(%p), index=1
  %all-gather.1 = f32[8,8]{1,0} all-gather(%x), dimensions={0}
  %f = f32[4,8]{1,0} fusion(%all-gather.1), calls=%inside, backend_config={"estimated_cycles":"70"}
  ROOT %t = (s32[], f32[4,8]{1,0}) tuple(%p, %f)
}

%condition (p: (s32[], f32[4,8])) -> pred[] {
  %p = (s32[], f32[4,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %bound = s32[]{:T(128)} constant(5)
  ROOT %less = pred[] compare(%i, %bound), direction=LT
}

%inside (a: f32[8,8]) -> f32[4,8] {
  %a = f32[8,8]{1,0} parameter(0)
  ROOT %reduce-scatter.3 = f32[4,8]{1,0} reduce-scatter(%a), dimensions={0}
}

%outer (p: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {
  %p = (s32[], f32[4,8]{1,0}) parameter(0)
  ROOT %while.2 = (s32[], f32[4,8]{1,0}) while(%p), condition=%condition, body=%body
}

ENTRY %main (x: f32[4,8]) -> f32[4,8] {
  %x = f32[4,8]{1,0:T(8,128)} parameter(0)
  %zero = s32[] constant(0)
  %start = (s32[], f32[4,8]{1,0}) tuple(%zero, %x)
  %while.1 = (s32[], f32[4,8]{1,0}) while(%start), condition=%any, body=%outer, backend_config={LOOPS}
  %y = f32[4,8]{1,0} get-tuple-element(%while.1), index=1
  %all-gather-start.2 = (f32[4,8]{1,0}, f32[16,8]{1,0}) all-gather-start(%y), dimensions={0}
  %all-gather-done.2 = f32[16,8]{1,0} all-gather-done(%all-gather-start.2)
  ROOT %all-reduce.9 = f32[4,8]{1,0} all-reduce(%y), to_apply=%sum
}
""".replace("{LOOPS}", '{"known_trip_count":{"n":"3"}}')

ROW = 8 * 4  # bytes


def test_collectives_in_loops_count_as_often_as_they_run():
    assert collective_bytes(LOOPS) == {
        "all-reduce": 4 * ROW,
        "all-gather": 3 * 5 * 8 * ROW + 16 * ROW,
        "reduce-scatter": 3 * 5 * 4 * ROW,
    }


def test_cycles_in_loops_count_as_often_as_they_run():
    assert cycles(Program.of(LOOPS)) == 3 * 5 * 70


def test_what_lies_in_fast_memory_is_no_traffic():
    program = """ENTRY %main (x: bf16[4]) -> bf16[4] {
  %x = bf16[4]{0:T(128)} parameter(0)
  %near = bf16[4]{0:T(128)S(1)} copy(%x)
  ROOT %y = bf16[4]{0:T(128)} add(%near, %x)
}"""
    assert traffic(Program.of(program)) == 8 + (8 + 8)


@pytest.mark.parametrize("layers", [1, 6])
def test_a_loop_over_layers_reads_each_layer_once(layers):
    """Of the stacked weights, a round reads its own slice, wherever the compiler puts the slicing."""
    stack = jax.ShapeDtypeStruct((layers, 64, 64), jnp.float32)
    x = jax.ShapeDtypeStruct((2, 64), jnp.float32)

    def run(stack, x):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, stack)[0]

    program = Program.of(jax.jit(run).lower(stack, x).compile().as_text())
    matrix = 64 * 64 * 4
    # A slice may be copied before it is read; a round never touches the whole stack.
    assert layers * matrix <= traffic(program) <= layers * (3 * matrix + 8 * 2 * 64 * 4) + 4 * 2 * 64 * 4
