"""Embed the patches of one snapshot: what every embedder does, whichever shell it works for."""

from contextlib import suppress
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from campaign.embedding_files import (
    Embeddings,
    embedding_crc32,
    embedding_path,
    read_embeddings,
    write_embeddings,
)
from campaign.events import BatchEmbedded, slot_of
from campaign.spool import patch_path
from continuum.patch_batch import PatchBatch
from continuum.patch_files import read_patches


class Encoder(Protocol):
    """A loaded encoder (`ml.load_encoder`)."""

    @property
    def version(self) -> str:
        """A short hash of its content."""

    def encode(self, density: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 14, 37, 37) nm⁻² -> (N, d)."""


def embed_snapshot(
    run: Path, snapshot_index: int, encoder: Encoder, batch: int = 512
) -> BatchEmbedded:
    """Embed a snapshot durably, once: whole embeddings by the same encoder are left as they are.

    Patches whose densities or vectors are not finite are quarantined. Raises ValueError for a
    damaged patch file, OSError where there is no room.
    """
    path = embedding_path(run, snapshot_index)
    embeddings = None
    with suppress(FileNotFoundError, ValueError):
        embeddings = read_embeddings(path)
    if embeddings is None or embeddings.encoder_version != encoder.version:
        patches = read_patches(patch_path(run, snapshot_index))
        embeddings = embed(patches, encoder, batch)
        write_embeddings(path, embeddings)
    return BatchEmbedded(
        snapshot_index=snapshot_index,
        encoder_version=embeddings.encoder_version,
        crc32=embedding_crc32(embeddings),
        quarantined=tuple(int(slot) for slot in embeddings.quarantined),
    )


def embed(patches: PatchBatch, encoder: Encoder, batch: int = 512) -> Embeddings:
    """The embeddings of a batch of patches; at most `batch` go to the encoder at once."""
    usable = np.isfinite(patches.density).all(axis=(1, 2, 3))
    density = patches.density[usable]
    parts = [encoder.encode(density[i : i + batch]) for i in range(0, len(density), batch)]
    vector = np.concatenate(parts) if parts else np.empty((0, 0), np.float32)
    finite = np.isfinite(vector).all(axis=1)
    kept = np.flatnonzero(usable)[finite]
    lost = np.setdiff1d(np.arange(len(patches)), kept)
    slots = [slot_of(int(patch)) for patch in patches.patch_id[lost]]
    return Embeddings(
        patch_id=patches.patch_id[kept],
        kind=patches.kind[kept],
        vector=vector[finite].astype(np.float32, copy=False),
        quarantined=np.array(slots, np.uint32),
        snapshot_index=patches.snapshot_index,
        encoder_version=encoder.version,
    )
