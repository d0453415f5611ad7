"""The learned similarity metric and its peers."""

from ml.encoder import load_encoder

__all__ = ["load_encoder"]
