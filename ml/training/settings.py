"""How long, how fast and on how many workers a model is trained; the same keys for every model."""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A part of a configuration: unknown keys, NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class EarlyStopping(Section):
    """Stop when the validation loss has not fallen by `minimum_change` for `patience` epochs."""

    patience: Count = 15
    minimum_change: Annotated[float, Field(ge=0)] = 0.0


class TrainingSettings(Section):
    """Settings of the loop. The learning rates are those of Bhatia et al. 2022, appendix.

    `learning_rates[i]` holds until epoch `switch_epochs[i]`, the last one to the end. `batch_size`
    counts samples over all workers; `threads` are those of one worker (null: all its cores).
    """

    seed: Annotated[int, Field(ge=0)] = 0
    epochs: Count = 80
    batch_size: Annotated[int, Field(ge=2)] = 256
    learning_rates: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1e-3, 5e-4, 1e-4, 1e-5)
    switch_epochs: tuple[Count, ...] = (10, 20, 30)
    early_stopping: EarlyStopping | None = EarlyStopping()
    mixed_precision: Literal["auto", "off"] = "auto"
    use_gpu: bool | Literal["auto"] = "auto"
    workers: Count = 1
    threads: Count | None = None
    max_failures: Annotated[int, Field(ge=0)] = 3

    @model_validator(mode="after")
    def _one_switch_between_two_rates(self) -> Self:
        switches = self.switch_epochs
        if len(self.learning_rates) != len(switches) + 1:
            raise ValueError(
                f"learning_rates must hold one value more than switch_epochs,"
                f" got {len(self.learning_rates)} and {len(switches)}"
            )
        if any(later <= earlier for earlier, later in pairwise(switches)):
            raise ValueError(f"switch_epochs must increase, got {list(switches)}")
        return self

    def learning_rate(self, epoch: int) -> float:
        """The piecewise constant learning rate of an epoch, counted from 0."""
        return self.learning_rates[sum(epoch >= switch for switch in self.switch_epochs)]
