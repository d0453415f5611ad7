"""What a report reads from a run's files: embeddings, proteins and lipids of patches over time."""

from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from campaign.embedding_files import embedding_path, read_embeddings
from campaign.report_figures import EmbeddedPatches
from campaign.state import CampaignState
from continuum.atomic_file import reading, stored_hdf5

NEIGHBOUR_NM = 5.0  # between the centres of two primaries; the next shell begins beyond
LARGEST_MAP = 200_000  # patches; beyond, every n-th snapshot is read


@dataclass(slots=True)
class PatchHistory:
    """Means over the protein patches of each snapshot."""

    time_us: list[float] = field(default_factory=list)
    mean_proteins: list[float] = field(default_factory=list)
    largest_proteins: list[int] = field(default_factory=list)
    lipid: list[float] = field(default_factory=list)  # patch mean, nm⁻²
    neighbours: list[float] = field(default_factory=list)  # other primaries within NEIGHBOUR_NM
    version: list[int] = field(default_factory=list)


def embedded_patches(run: Path, state: CampaignState) -> EmbeddedPatches | None:
    """Every embedded patch, thinned by snapshots beyond LARGEST_MAP; None if there is none.

    Selected patches are never thinned out. Raises ValueError where the embeddings are of several
    encoders, whose distances cannot be compared.
    """
    if state.embedded == 0:
        return None
    every = max(1, state.patches_embedded // LARGEST_MAP)
    picked = np.array([job.patch_id for job in state.order], dtype=np.uint64)
    vectors, kinds, selected = [], [], []
    encoder: str | None = None
    for snapshot in range(state.embedded):
        stored = read_embeddings(embedding_path(run, snapshot))
        if encoder is not None and stored.encoder_version != encoder:
            raise ValueError(
                f"{run} mixes embeddings of the encoders {encoder} and {stored.encoder_version} "
                f"(from snapshot {snapshot} on), which have no common distance; what embeds anew "
                "still works (`analyse space`, `drift`, `decorrelation`, `metric`)"
            )
        encoder = stored.encoder_version
        chosen = np.isin(stored.patch_id, picked)
        keep = chosen | (snapshot % every == 0)
        vectors.append(stored.vector[keep])
        kinds.append(stored.kind[keep])
        selected.append(chosen[keep])
    return EmbeddedPatches(
        z=np.concatenate(vectors), kind=np.concatenate(kinds), selected=np.concatenate(selected)
    )


def patch_history(run: Path, lipid: str, most: int = 400) -> PatchHistory:
    """Proteins and a lipid (such as "inner PAP6") over time, from at most `most` snapshots.

    The lipid's mean is of its channel alone, so that no whole patch file is read.
    """
    history = PatchHistory()
    files = sorted((run / "patches").glob("[0-9]*.h5"))
    for path in files[:: max(1, len(files) // most)]:
        with stored_hdf5(path, "patches") as file, reading(path, "patches"):
            of_protein = file["central_state"][()] >= 0
            if not of_protein.any():
                continue
            count = (file["n_ras"][()].astype(int) + file["n_raf"][()])[of_protein]
            channel = [str(name) for name in file.attrs["species"]].index(lipid)
            density = file["density"][:, channel][of_protein]
            history.time_us.append(float(file.attrs["time_us"]))
            history.version.append(int(file.attrs["parameter_version"]))
            history.neighbours.append(near_neighbours(file))
        history.mean_proteins.append(float(count.mean()))
        history.largest_proteins.append(int(count.max()))
        history.lipid.append(float(density.mean()))
    return history


def near_neighbours(file: h5py.File) -> float:
    """Mean number of other primaries near the primary of a protein patch of a file.

    A primary is a bead whose own patch is in the file, recognised by its state.
    """
    central = file["central_state"][()]
    offset, position = file["bead_offset"][()], file["bead_position_nm"][()]
    primary = np.isin(file["bead_state"][()], np.unique(central[central >= 0]))
    near = primary & (np.hypot(position[:, 0], position[:, 1]) < NEIGHBOUR_NM)
    found = np.add.reduceat(np.append(near, False), offset[:-1])[central >= 0]
    return float(found.mean() - 1.0)


def lipid_to_follow(run: Path) -> str | None:
    """The lipid whose patches vary most against its mean: PAP6 in the RAS systems; None if no
    patches are there."""
    files = sorted((run / "patches").glob("[0-9]*.h5"))
    if not files:
        return None
    with stored_hdf5(files[-1], "patches") as file, reading(files[-1], "patches"):
        species = [str(name) for name in file.attrs["species"]]
        means = file["density"][()].mean(axis=(2, 3))
    if len(means) == 0:
        return species[0]
    return species[int(np.argmax(means.std(axis=0) / means.mean(axis=0)))]
