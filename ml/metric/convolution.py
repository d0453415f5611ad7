"""A convolution without padding, by whichever route is fastest for its kernel."""

import torch
from torch import Tensor
from torch.nn import functional


def convolve(x: Tensor, kernel: Tensor, bias: Tensor, stride: int) -> Tensor:
    """(B, C, n, n) with kernel (F, C, k, k) and bias (F,) to (B, F, m, m), m = (n - k) // s + 1.

    With k = 1 it is a matrix product, which a CPU does several times as fast as a convolution.
    Otherwise channels are put last, which doubles the speed of a convolution's gradient there.
    """
    if kernel.shape[2:] != (1, 1) or stride != 1:
        channels_last = x.contiguous(memory_format=torch.channels_last)
        return functional.conv2d(channels_last, kernel, bias, stride)
    filters, channels = kernel.shape[:2]
    matrix = kernel.reshape(1, filters, channels).expand(len(x), -1, -1)
    return torch.baddbmm(bias[:, None], matrix, x.flatten(2)).view(len(x), filters, *x.shape[2:])
