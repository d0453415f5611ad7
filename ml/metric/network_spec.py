"""What a network of the metric is built from, as it stands in configurations and encoders."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ml.patch_set import NODES

Width = Annotated[int, Field(ge=1, le=1024)]


class Convolution(BaseModel):
    """One layer: convolution without padding, ReLU, batch normalisation.

    A `depth_multiplier` m > 0 makes it separable: m filters for each channel, then a 1x1 mixing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    filters: Width
    kernel: int = Field(default=3, ge=1, le=NODES)
    stride: int = Field(default=1, ge=1, le=NODES)
    depth_multiplier: int = Field(default=0, ge=0, le=64)


PUBLISHED_CONVOLUTIONS = (
    Convolution(filters=6, kernel=1, depth_multiplier=6),
    Convolution(filters=16, kernel=3, stride=2),
    Convolution(filters=16, kernel=3, stride=2),
)


class NetworkSpec(BaseModel):
    """A network (B, 14, 37, 37) -> (B, dimension).

    `published` is the final model of Bhatia et al. 2022 and takes no layers; `convolutional` the
    same with other convolutions and dense layers (their section 3.2); `invariant` is exactly
    invariant under the symmetries of the square, has two convolutions of the given `widths` and,
    unless told otherwise, one hidden layer of 64.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["published", "convolutional", "invariant"] = "published"
    dimension: int = Field(default=9, ge=1, le=64)
    convolutions: tuple[Convolution, ...] = Field(default=(), max_length=8)
    hidden: tuple[Width, ...] = Field(default=(), max_length=4)
    widths: tuple[Width, Width] = (6, 8)

    @model_validator(mode="after")
    def _layers_fit(self) -> Self:
        if self.kind == "convolutional" and not self.convolutions:
            raise ValueError("a convolutional network needs at least one of convolutions")
        if self.kind == "published" and (self.convolutions or self.hidden):
            raise ValueError("the published network takes neither convolutions nor hidden")
        if self.kind == "invariant" and self.convolutions:
            raise ValueError("the invariant network takes no convolutions")
        if self.kind != "invariant" and self.widths != type(self).model_fields["widths"].default:
            raise ValueError(f"widths belong to the invariant network, not to a {self.kind} one")
        side = NODES
        for number, layer in enumerate(self.convolutions):
            if layer.kernel > side:
                raise ValueError(
                    f"convolutions[{number}] has kernel {layer.kernel}, but {side} nodes are left"
                )
            side = (side - layer.kernel) // layer.stride + 1
        return self
