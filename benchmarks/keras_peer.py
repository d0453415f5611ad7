"""The published network of the metric in Keras on its torch backend: the peer of our training.

The loss, the batch and its preparation are ours in both; what differs is the network, its backward
pass and the optimiser. Both data formats of Keras are timed and the faster is the peer.
"""

import importlib.util
import os
from collections.abc import Callable
from typing import Any

import torch

FORMATS = ("channels_last", "channels_first")


def keras_there() -> bool:
    """Whether Keras can be imported."""
    return importlib.util.find_spec("keras") is not None


def keras_step(
    data_format: str, images: torch.Tensor, loss_of: Callable[[torch.Tensor], torch.Tensor]
) -> tuple[Callable[[], float], int]:
    """One training step on standardised images (B, 14, 37, 37), and the number of parameters.

    Keras' documented loop of the torch backend: call, backward, `optimizer.apply`.
    """
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    if keras.backend.backend() != "torch":
        raise RuntimeError(f"Keras must run on torch, runs on {keras.backend.backend()}")
    keras.utils.set_random_seed(0)
    keras.backend.set_image_data_format(data_format)
    model = _network(keras)
    optimiser = keras.optimizers.Adam(1e-3)
    optimiser.build(model.trainable_variables)
    x = images.permute(0, 2, 3, 1) if data_format == "channels_last" else images
    x = x.contiguous()

    def step() -> float:
        loss = loss_of(model(x, training=True))
        model.zero_grad()
        loss.backward()
        gradients = [variable.value.grad for variable in model.trainable_variables]
        with torch.no_grad():
            optimiser.apply(gradients, model.trainable_variables)
        return float(loss.detach())

    return step, model.count_params()


def _network(keras: Any) -> Any:
    layers = keras.layers
    first = keras.backend.image_data_format() == "channels_first"
    axis = 1 if first else -1
    shape = (14, 37, 37) if first else (37, 37, 14)
    return keras.Sequential(
        [
            layers.Input(shape),
            layers.SeparableConv2D(6, 1, depth_multiplier=6, activation="relu"),
            layers.BatchNormalization(axis=axis),
            layers.Conv2D(16, 3, strides=2, activation="relu"),
            layers.BatchNormalization(axis=axis),
            layers.Conv2D(16, 3, strides=2, activation="relu"),
            layers.BatchNormalization(axis=axis),
            layers.Flatten(),
            layers.Dense(9),
            layers.BatchNormalization(),
        ]
    )
