"""How kernels are compiled: numba with fused multiply-add allowed, everything else IEEE."""

from numba import njit

# Contraction changes a result's last bit but not from one cut of the membrane to another; NaN and
# infinity keep their meaning.
kernel = njit(cache=True, error_model="numpy", fastmath={"contract", "nsz"})
inlined = njit(inline="always", error_model="numpy", fastmath={"contract", "nsz"})
