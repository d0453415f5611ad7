"""Eight float64 lanes as one value inside numba kernels: they decide, so nothing is fused."""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import register_model

from selector.lanes import intrinsic

WIDTH = 8
DOUBLES = ir.VectorType(ir.DoubleType(), WIDTH)
WORD = ir.IntType(32)


class DoublesType(types.Type):
    """The numba type of eight float64 lanes."""

    def __init__(self) -> None:
        super().__init__(name="Lanes8f64")


@register_model(DoublesType)
class DoublesModel(models.PrimitiveModel):
    """Held in a vector register."""

    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, DOUBLES)  # type: ignore[no-untyped-call]


doubles_type = DoublesType()


def _doubles(context: Any, builder: Any, array_type: Any, array: Any, offset: Any) -> list[Any]:
    start = builder.gep(context.make_array(array_type)(context, builder, array).data, [offset])
    eight = builder.bitcast(start, DOUBLES.as_pointer())
    parts = []
    for i in range(8):
        part = builder.load(builder.gep(eight, [ir.Constant(ir.IntType(32), i)]))
        part.align = 8
        parts.append(part)
    return parts


def _splat_double(builder: Any, scalar: Any) -> Any:
    zero = ir.Constant(ir.IntType(32), 0)
    first = builder.insert_element(ir.Constant(DOUBLES, ir.Undefined), scalar, zero)
    mask = ir.Constant(ir.VectorType(ir.IntType(32), 8), None)
    return builder.shuffle_vector(first, first, mask)


@intrinsic
def no_distance(typingctx: Any) -> tuple[Any, Callable[..., Any]]:
    """Zero in every lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(DOUBLES, [0.0] * WIDTH)

    return doubles_type(), generate


@intrinsic
def add_gaps_squared(
    typingctx: Any, total: Any, points: Any, indices: Any, first: Any, width: Any, axis: Any, x: Any
) -> tuple[Any, Callable[..., Any]]:
    """total + (x - points[indices[first + i] * width + axis])², i < 8; no bounds check.

    points is flat float32, indices int32, x float32; every operation is one of float64.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        total, points, indices, first, width, axis, x = arguments
        data = context.make_array(signature.args[1])(context, builder, points).data
        numbers = context.make_array(signature.args[2])(context, builder, indices).data
        gathered: Any = ir.Constant(ir.VectorType(ir.FloatType(), WIDTH), ir.Undefined)
        for i in range(WIDTH):
            at = builder.add(first, ir.Constant(first.type, i))
            row = builder.sext(builder.load(builder.gep(numbers, [at])), first.type)
            place = builder.add(builder.mul(row, width), axis)
            value = builder.load(builder.gep(data, [place]))
            gathered = builder.insert_element(gathered, value, ir.Constant(WORD, i))
        wide = builder.fpext(gathered, DOUBLES)
        gap = builder.fsub(_splat_double(builder, builder.fpext(x, ir.DoubleType())), wide)
        return builder.fadd(total, builder.fmul(gap, gap))

    return (
        doubles_type(
            doubles_type, points, indices, types.intp, types.intp, types.intp, types.float32
        ),
        generate,
    )


@intrinsic
def store_roots(
    typingctx: Any, array: Any, offset: Any, squares: Any, count: Any
) -> tuple[Any, Callable[..., Any]]:
    """array[offset + i] = sqrt(squares[i]) for i < count, else infinity, i < 8; no bounds check."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, offset, squares, count = arguments
        root = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
            builder.module, ir.FunctionType(DOUBLES, [DOUBLES]), f"llvm.sqrt.v{WIDTH}f64"
        )
        words = ir.VectorType(WORD, WIDTH)
        first = builder.insert_element(
            ir.Constant(words, ir.Undefined), builder.trunc(count, WORD), ir.Constant(WORD, 0)
        )
        limit = builder.shuffle_vector(first, first, ir.Constant(words, None))
        used = builder.icmp_signed("<", ir.Constant(words, list(range(WIDTH))), limit)
        infinite = ir.Constant(DOUBLES, [float("inf")] * WIDTH)
        value = builder.select(used, builder.call(root, [squares]), infinite)
        data = context.make_array(signature.args[0])(context, builder, array).data
        address = builder.bitcast(builder.gep(data, [offset]), DOUBLES.as_pointer())
        builder.store(value, address).align = 8
        return context.get_dummy_value()

    return types.void(array, types.intp, doubles_type, types.intp), generate


@intrinsic
def largest_of_64(typingctx: Any, array: Any, offset: Any) -> tuple[Any, Callable[..., Any]]:
    """max(array[offset : offset + 64]) of a flat float64 array without NaN; no bounds check."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def larger(left: Any, right: Any) -> Any:
            return builder.select(builder.fcmp_ordered(">", left, right), left, right)

        parts = _doubles(context, builder, signature.args[0], *arguments)
        while len(parts) > 1:
            parts = [larger(*parts[i : i + 2]) for i in range(0, len(parts), 2)]
        value = parts[0]
        for width in (4, 2, 1):
            mask = ir.Constant(ir.VectorType(ir.IntType(32), 8), [i ^ width for i in range(8)])
            value = larger(value, builder.shuffle_vector(value, value, mask))
        return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))

    return types.float64(array, types.intp), generate


@intrinsic
def equal_of_64(
    typingctx: Any, array: Any, offset: Any, value: Any
) -> tuple[Any, Callable[..., Any]]:
    """Bit i is set where array[offset + i] == value, i < 64, in a flat float64 array."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        parts = _doubles(context, builder, signature.args[0], *arguments[:2])
        wanted = _splat_double(builder, arguments[2])
        word = ir.IntType(64)
        bits = ir.Constant(word, 0)
        for i, part in enumerate(parts):
            same = builder.bitcast(builder.fcmp_ordered("==", part, wanted), ir.IntType(8))
            moved = builder.shl(builder.zext(same, word), ir.Constant(word, 8 * i))
            bits = builder.or_(bits, moved)
        return bits

    return types.uint64(array, types.intp, types.float64), generate


@intrinsic
def compared_16(
    typingctx: Any, array: Any, offset: Any, value: Any
) -> tuple[Any, Callable[..., Any]]:
    """Two masks of array[offset : offset + 16], flat float64: below `value`, and equal to it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        parts = _doubles(context, builder, signature.args[0], *arguments[:2])[:2]
        wanted = _splat_double(builder, arguments[2])
        word = ir.IntType(64)
        masks = []
        for operator in ("<", "=="):
            bits = ir.Constant(word, 0)
            for i, part in enumerate(parts):
                true = builder.fcmp_ordered(operator, part, wanted)
                wide = builder.zext(builder.bitcast(true, ir.IntType(8)), word)
                bits = builder.or_(bits, builder.shl(wide, ir.Constant(word, 8 * i)))
            masks.append(bits)
        return context.make_tuple(builder, signature.return_type, masks)

    pair = types.UniTuple(types.uint64, 2)  # type: ignore[no-untyped-call]
    return pair(array, types.intp, types.float64), generate
