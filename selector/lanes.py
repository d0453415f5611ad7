"""Sixteen float32 lanes as one value inside numba kernels, lowered to whatever SIMD the CPU has.

LLVM's auto-vectoriser leaves a distance kernel with a run-time dimension at about a quarter of the
arithmetic rate; explicit vectors reach it, and a comparison becomes a bit mask instead of a loop.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import intrinsic as typed_intrinsic
from numba.extending import register_model
from numpy.typing import NDArray

LANES = 16
CACHE_LINE = 64
VECTOR = ir.VectorType(ir.FloatType(), LANES)


def aligned(shape: int | tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """An uninitialised array that starts on a cache line: vectors across two are loaded twice."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.empty(size + CACHE_LINE, np.uint8)
    start = -raw.ctypes.data % CACHE_LINE
    array: NDArray[Any] = raw[start : start + size].view(dtype).reshape(shape)
    return array


def intrinsic(function: Callable[..., Any]) -> Any:
    """numba's decorator, untyped: callers do not pass the typing context of the definition."""
    return typed_intrinsic(function)


class LanesType(types.Type):
    """The numba type of sixteen float32 lanes."""

    def __init__(self) -> None:
        super().__init__(name="Lanes16f32")


@register_model(LanesType)
class LanesModel(models.PrimitiveModel):
    """Held in a vector register."""

    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, VECTOR)  # type: ignore[no-untyped-call]


lanes_type = LanesType()


def _splat(builder: Any, scalar: Any) -> Any:
    zero = ir.Constant(ir.IntType(32), 0)
    first = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), scalar, zero)
    mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), None)
    return builder.shuffle_vector(first, ir.Constant(VECTOR, ir.Undefined), mask)


@intrinsic
def load(typingctx: Any, array: Any, offset: Any) -> tuple[Any, Callable[..., Any]]:
    """array[offset : offset + 16] of a flat float32 array; no bounds check."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        struct = context.make_array(signature.args[0])(context, builder, arguments[0])
        address = builder.gep(struct.data, [arguments[1]])
        loaded = builder.load(builder.bitcast(address, VECTOR.as_pointer()))
        loaded.align = 4
        return loaded

    return lanes_type(array, types.intp), generate


@intrinsic
def splat(typingctx: Any, scalar: Any) -> tuple[Any, Callable[..., Any]]:
    """The same float32 in every lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _splat(builder, arguments[0])

    return lanes_type(types.float32), generate


@intrinsic
def splat_at(typingctx: Any, array: Any, offset: Any) -> tuple[Any, Callable[..., Any]]:
    """array[offset] of a flat float32 array in every lane; no bounds check, no negative offset."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        struct = context.make_array(signature.args[0])(context, builder, arguments[0])
        return _splat(builder, builder.load(builder.gep(struct.data, [arguments[1]])))

    return lanes_type(array, types.intp), generate


@intrinsic
def prefetch(typingctx: Any, array: Any, offset: Any) -> tuple[Any, Callable[..., Any]]:
    """Ask for array[offset] of a flat array ahead of its use; no bounds check, no effect."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
            builder.module,
            ir.FunctionType(ir.VoidType(), [byte, word, word, word]),
            "llvm.prefetch.p0",
        )
        address = builder.bitcast(builder.gep(data, [arguments[1]]), byte)
        builder.call(function, [address, *(ir.Constant(word, i) for i in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@intrinsic
def add_squared_difference(
    typingctx: Any, total: Any, left: Any, right: Any
) -> tuple[Any, Callable[..., Any]]:
    """total + (left - right)², fused where the CPU can: for filters with a margin only."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        difference = builder.fsub(arguments[1], arguments[2])
        fused = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
            builder.module, ir.FunctionType(VECTOR, [VECTOR] * 3), f"llvm.fmuladd.v{LANES}f32"
        )
        return builder.call(fused, [difference, difference, arguments[0]])

    return lanes_type(lanes_type, lanes_type, lanes_type), generate


@intrinsic
def minimum(typingctx: Any, left: Any, right: Any) -> tuple[Any, Callable[..., Any]]:
    """The smaller in each lane; the right one where either is NaN."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        less = builder.fcmp_ordered("<", arguments[0], arguments[1])
        return builder.select(less, arguments[0], arguments[1])

    return lanes_type(lanes_type, lanes_type), generate


@intrinsic
def add_product(
    typingctx: Any, total: Any, left: Any, right: Any
) -> tuple[Any, Callable[..., Any]]:
    """total + left * right, fused where the CPU can: for filters with a margin only."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        fused = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
            builder.module, ir.FunctionType(VECTOR, [VECTOR] * 3), f"llvm.fmuladd.v{LANES}f32"
        )
        return builder.call(fused, [arguments[1], arguments[2], arguments[0]])

    return lanes_type(lanes_type, lanes_type, lanes_type), generate


@intrinsic
def at_most(typingctx: Any, left: Any, right: Any) -> tuple[Any, Callable[..., Any]]:
    """Bit i is set where left[i] <= right[i]."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = builder.fcmp_ordered("<=", arguments[0], arguments[1])
        packed = builder.bitcast(bits, ir.IntType(LANES))
        return builder.zext(packed, ir.IntType(64))

    return types.uint64(lanes_type, lanes_type), generate


@intrinsic
def smallest(typingctx: Any, lanes: Any) -> tuple[Any, Callable[..., Any]]:
    """The smallest lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = arguments[0]
        width = LANES // 2
        while width:
            order = [i + width if i < width else i for i in range(LANES)]
            mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), order)
            moved = builder.shuffle_vector(value, value, mask)
            less = builder.fcmp_ordered("<", value, moved)
            value = builder.select(less, value, moved)
            width //= 2
        return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))

    return types.float32(lanes_type), generate


def _shuffled_minimum(builder: Any, left: Any, right: Any, first: Any, second: Any) -> Any:
    masks = [ir.Constant(ir.VectorType(ir.IntType(32), LANES), order) for order in (first, second)]
    one, other = (builder.shuffle_vector(left, right, mask) for mask in masks)
    return builder.select(builder.fcmp_ordered("<", one, other), one, other)


@intrinsic
def store_smallest_of_four(
    typingctx: Any, array: Any, offset: Any, stride: Any, a: Any, b: Any, c: Any, d: Any
) -> tuple[Any, Callable[..., Any]]:
    """array[offset + i * stride] = the smallest lane of the i-th of four; no bounds check.

    The four share their shuffles: 15 instructions instead of 32.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        flat, offset, stride, *four = arguments
        low, high = list(range(8)), list(range(8, 16))
        there = [[i + LANES for i in half] for half in (low, high)]
        pairs = [
            _shuffled_minimum(builder, four[i], four[i + 1], low + there[0], high + there[1])
            for i in (0, 2)
        ]
        quarter = [0, 1, 2, 3, 8, 9, 10, 11]
        even = quarter + [i + LANES for i in quarter]
        value = _shuffled_minimum(builder, pairs[0], pairs[1], even, [i + 4 for i in even])
        for width in (2, 1):
            same = list(range(LANES))
            value = _shuffled_minimum(builder, value, value, same, [i ^ width for i in same])
        data = context.make_array(signature.args[0])(context, builder, flat).data
        at = offset
        for i in range(4):
            lane = builder.extract_element(value, ir.Constant(ir.IntType(32), 4 * i))
            builder.store(lane, builder.gep(data, [at]))
            at = builder.add(at, stride)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, *[lanes_type] * 4), generate


@intrinsic
def sum_of_roots(
    typingctx: Any, total: Any, squares: Any, slack: Any, count: Any
) -> tuple[Any, Callable[..., Any]]:
    """total (float64) + the sum of sqrt(squares + slack) over the first `count` lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        total, squares, slack, count = arguments
        root = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
            builder.module, ir.FunctionType(VECTOR, [VECTOR]), f"llvm.sqrt.v{LANES}f32"
        )
        value = builder.call(root, [builder.fadd(squares, slack)])
        word = ir.VectorType(ir.IntType(32), LANES)
        numbers = ir.Constant(word, list(range(LANES)))
        narrow = builder.trunc(count, ir.IntType(32))
        zero = ir.Constant(ir.IntType(32), 0)
        first = builder.insert_element(ir.Constant(word, ir.Undefined), narrow, zero)
        limit = builder.shuffle_vector(
            first, ir.Constant(word, ir.Undefined), ir.Constant(word, None)
        )
        used = builder.icmp_signed("<", numbers, limit)
        value = builder.select(used, value, ir.Constant(VECTOR, [0.0] * LANES))
        width = LANES // 2
        while width:
            order = [i ^ width for i in range(LANES)]
            mask = ir.Constant(word, order)
            value = builder.fadd(value, builder.shuffle_vector(value, value, mask))
            width //= 2
        last = builder.extract_element(value, zero)
        return builder.fadd(total, builder.fpext(last, ir.DoubleType()))

    return types.float64(types.float64, lanes_type, lanes_type, types.int64), generate


@intrinsic
def lowest_bit(typingctx: Any, bits: Any) -> tuple[Any, Callable[..., Any]]:
    """Index of the lowest set bit of a non-zero word."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        count = builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))
        return count

    return types.int64(types.uint64), generate


@intrinsic
def bit_count(typingctx: Any, bits: Any) -> tuple[Any, Callable[..., Any]]:
    """Number of set bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


@intrinsic
def outside_squared(
    typingctx: Any, total: Any, value: Any, least: Any, greatest: Any
) -> tuple[Any, Callable[..., Any]]:
    """total + (distance of value to the interval [least, greatest])²; infinity stays infinite."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        running, value, least, greatest = arguments
        under = builder.fsub(least, value)
        over = builder.fsub(value, greatest)
        gap = builder.select(builder.fcmp_ordered(">", under, over), under, over)
        zero = ir.Constant(VECTOR, [0.0] * LANES)
        gap = builder.select(builder.fcmp_ordered(">", gap, zero), gap, zero)
        return builder.fadd(running, builder.fmul(gap, gap))

    return lanes_type(lanes_type, lanes_type, lanes_type, lanes_type), generate
