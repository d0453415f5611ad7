"""The eight symmetries of the square, acting on the last two axes of images.

Map g turns the image by g % 4 quarter turns after mirroring it if g >= 4; 0 is the identity.
"""

from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

SYMMETRIES = tuple(range(8))
# The five of Bhatia et al. 2022, section 2.2.2: three rotations and the two reflections along axes.
PUBLISHED_SYMMETRIES = (1, 2, 3, 4, 6)

Images = TypeVar("Images", torch.Tensor, NDArray[Any])


def apply_symmetry(images: Images, g: int) -> Images:
    """(..., n, n) under map `g`. Raises ValueError unless `g` is 0 to 7 and images are square."""
    if g not in SYMMETRIES:
        raise ValueError(f"a symmetry of the square must be 0 to 7, got {g}")
    if images.shape[-1] != images.shape[-2]:
        raise ValueError(f"images must be square, got {tuple(images.shape)}")
    if isinstance(images, torch.Tensor):
        mirrored = torch.flip(images, (-1,)) if g >= 4 else images
        return torch.rot90(mirrored, g % 4, (-2, -1))
    mirrored_array = np.flip(images, -1) if g >= 4 else images
    return np.rot90(mirrored_array, g % 4, (-2, -1))


def views(images: torch.Tensor, symmetries: tuple[int, ...]) -> torch.Tensor:
    """(B, ..., n, n) to (B, T, ..., n, n), one view under each of T maps."""
    return torch.stack([apply_symmetry(images, g) for g in symmetries], dim=1)
