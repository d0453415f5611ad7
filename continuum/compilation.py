"""How kernels are compiled, and the only module that imports numba's compiler.

Compilers hold back 512-bit vectors on CPUs that have them, for fear of lower clocks; these kernels
are arithmetic from end to end and gain a fifth from full width, so it is asked for, in the one way
numba offers: its environment variables, before its first import. A user's own settings win.
"""

import os
import sys
from typing import TYPE_CHECKING

import llvmlite.binding as llvm


def _ask_for_full_width() -> None:
    chosen = {"NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"} & os.environ.keys()
    features = llvm.get_host_cpu_features()
    if chosen or "numba" in sys.modules or not features.get("avx512f"):
        return
    os.environ["NUMBA_CPU_NAME"] = llvm.get_host_cpu_name()
    os.environ["NUMBA_CPU_FEATURES"] = f"{features.flatten()},-prefer-256-bit"


_ask_for_full_width()

from numba import njit  # noqa: E402

# Fused multiply-add changes a result's last bit, but not from one cut of the membrane to another;
# NaN and infinity keep their meaning.
kernel = njit(cache=True, error_model="numpy", fastmath={"contract", "nsz"})
# For kernels that allocate no arrays: without counting references, a slice costs nothing.
if TYPE_CHECKING:
    borrowing_kernel = kernel  # numba's annotations do not know the option
else:
    borrowing_kernel = njit(
        cache=True, error_model="numpy", fastmath={"contract", "nsz"}, _nrt=False
    )
inlined = njit(inline="always", error_model="numpy", fastmath={"contract", "nsz"})
exact_kernel = njit(cache=True, error_model="numpy")
exact_inlined = njit(inline="always", error_model="numpy")
