"""Cubic B-splines of many species along a row of cells, eight species and eight cells at once.

All species of a cell share its four weights; numba's own vectoriser leaves such a loop scalar.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 8  # species and cells are padded to whole vectors of this many


def _shuffled(builder: Any, a: Any, b: Any, picks: list[int]) -> Any:
    mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), picks)
    return builder.shuffle_vector(a, b, mask)


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """LANES vectors as the columns of a square -> its rows, by exchanging ever smaller corners."""
    half = LANES // 2
    while half:
        low = [j if not j & half else LANES + j - half for j in range(LANES)]
        high = [j + half if not j & half else LANES + j for j in range(LANES)]
        for i in (i for i in range(LANES) if not i & half):
            a, b = rows[i], rows[i + half]
            rows[i] = _shuffled(builder, a, b, low)
            rows[i + half] = _shuffled(builder, a, b, high)
        half //= 2
    return rows


def _blend_block(
    typing_context: Any,
    out: Any,  # (>= lane + LANES, >= cell + LANES), overwritten there
    lane: Any,
    cell: Any,
    curve: Any,  # (nodes, >= lane + LANES)
    node: Any,  # (>= cell + LANES,) int64
    weight: Any,  # (4, >= cell + LANES)
) -> Any:
    """out[l, c] = Σ_k weight[k, c] curve[node[c] + k, l] for LANES l from lane, LANES c from cell.

    All arrays are contiguous; out, curve and weight are of one floating type. Nothing is checked.
    """
    arrays = (out, curve, node, weight)
    if any(array.layout != "C" for array in arrays) or not out.dtype == curve.dtype == weight.dtype:
        return None

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        element = context.get_data_type(out.dtype)
        vector = ir.VectorType(element, LANES)
        size = context.get_abi_sizeof(element)
        word = args[1].type
        undefined = ir.Constant(vector, ir.Undefined)

        def constant(value: int) -> Any:
            return ir.Constant(word, value)

        def place(kind: Any, position: int, row: Any, column: Any) -> Any:
            view = context.make_array(kind)(context, builder, args[position])
            width = builder.extract_value(view.shape, 1)
            return builder.gep(view.data, [builder.add(builder.mul(row, width), column)])

        def blended(column: Any) -> Any:
            nodes = context.make_array(node)(context, builder, args[4])
            first = builder.load(builder.gep(nodes.data, [column]))
            total = ir.Constant(vector, [0.0] * LANES)
            for k in range(4):
                factor = builder.load(place(weight, 5, constant(k), column))
                spread = builder.insert_element(undefined, factor, ir.Constant(ir.IntType(32), 0))
                start = place(curve, 3, builder.add(first, constant(k)), args[1])
                row = builder.load(builder.bitcast(start, vector.as_pointer()), align=size)
                everywhere = _shuffled(builder, spread, undefined, [0] * LANES)
                share = builder.fmul(everywhere, row, flags=("contract",))
                total = builder.fadd(total, share, flags=("contract",))
            return total

        rows = [blended(builder.add(args[2], constant(j))) for j in range(LANES)]
        for j, values in enumerate(_transposed(builder, rows)):
            start = place(out, 0, builder.add(args[1], constant(j)), args[2])
            builder.store(values, builder.bitcast(start, vector.as_pointer()), align=size)
        return context.get_dummy_value()

    return types.none(out, types.intp, types.intp, curve, node, weight), build


blend_block: Any = intrinsic(_blend_block)
