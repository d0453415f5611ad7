"""The learned similarity metric and its peers."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ml.encoder import load_encoder

__all__ = ["load_encoder"]


def __getattr__(name: str) -> Any:
    """Import torch only where an encoder is asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ml.encoder import load_encoder

    return load_encoder
