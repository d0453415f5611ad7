"""Dense layers that end a network of the metric, and how its weights start."""

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

# Of every batch normalisation, as Keras has them: the running statistics keep 0.99 of themselves.
EPSILON, MOMENTUM = 1e-3, 0.01


class DenseLayers(nn.Module):
    """Hidden layers with ReLU and batch norm, then a linear layer with batch norm.

    With `norm_first`, ReLU follows the norm of a hidden layer: then the norm cannot amplify without
    bound a unit that no training patch has set off.
    """

    def __init__(
        self, inputs: int, hidden: Sequence[int], dimension: int, *, norm_first: bool = False
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.linears = nn.ModuleList()
        self.norms = nn.ModuleList()
        for width in (*hidden, dimension):
            linear = nn.Linear(inputs, width)
            glorot(linear.weight, inputs, width)
            nn.init.zeros_(linear.bias)
            self.linears.append(linear)
            self.norms.append(nn.BatchNorm1d(width, eps=EPSILON, momentum=MOMENTUM))
            inputs = width

    def forward(self, x: Tensor) -> Tensor:
        last = len(self.linears) - 1
        for depth, (linear, norm) in enumerate(zip(self.linears, self.norms, strict=True)):
            x = linear(x)
            if depth == last:
                x = norm(x)
            elif self.norm_first:
                x = functional.relu(norm(x))
            else:
                x = norm(functional.relu(x))
        return x


def glorot(weight: Tensor, fan_in: int, fan_out: int) -> None:
    """Uniform in ±√(6 / (fan in + fan out)), in place."""
    bound = math.sqrt(6.0 / (fan_in + fan_out))
    nn.init.uniform_(weight, -bound, bound)
