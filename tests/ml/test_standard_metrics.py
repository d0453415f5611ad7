import numpy as np
import pytest

from ml.metric.criteria import embed, judge, profiles_of
from ml.metric.standard_metrics import (
    STANDARD_FACTOR,
    images,
    mean_concentrations,
    standardised_profiles,
)
from ml.metric.symmetries import SYMMETRIES, apply_symmetry
from ml.patch_data import Standardisation, open_patches
from tests.ml.small_run import write_run


@pytest.fixture(scope="module")
def patches(tmp_path_factory):
    return open_patches([write_run(tmp_path_factory.mktemp("run") / "run")])


def test_distances_are_those_of_table_1(patches):
    density = np.asarray(patches.density[:5], dtype=np.float64)
    standardisation = Standardisation.of(patches)
    a, b = density[1], density[3]

    def distance(vectors):
        assert vectors.dtype == np.float32
        return np.linalg.norm(vectors[1].astype(float) - vectors[3])

    pixels = np.sqrt(sum((a[c, i, j] - b[c, i, j]) ** 2 for c, i, j in np.ndindex(a.shape)))
    means = np.sqrt(sum((a[c].mean() - b[c].mean()) ** 2 for c in range(14)))
    assert distance(images(density)) == pytest.approx(pixels, rel=1e-5)
    assert distance(mean_concentrations(density)) == pytest.approx(means, rel=1e-4)
    profiles = standardised_profiles(standardisation)(density)
    assert profiles.shape == (5, 304)
    # Channel 2 at the centre: the ring of radius 0 is the one node in the middle.
    middle = (a[2, 18, 18] - standardisation.mean[2]) / standardisation.std[2]
    assert profiles[1, 2 * 38] == pytest.approx(middle, rel=1e-4)


def test_means_and_profiles_are_invariant_and_images_are_not(patches):
    density = np.asarray(patches.density[:6], dtype=np.float32)
    profiles = standardised_profiles(Standardisation.of(patches))
    for g in SYMMETRIES[1:]:
        moved = apply_symmetry(density, g)
        np.testing.assert_allclose(mean_concentrations(moved), mean_concentrations(density))
        np.testing.assert_allclose(profiles(moved), profiles(density), atol=1e-5)
        assert np.abs(images(moved) - images(density)).max() > 0.01


def test_profiles_score_no_residual_and_no_overlap_and_images_overlap(patches):
    index = np.arange(len(patches))
    standardisation = Standardisation.of(patches)
    profiles = profiles_of(patches, index, standardisation)

    found = {
        name: judge(embed(encode, patches, index), patches.kind, profiles, factor=STANDARD_FACTOR)
        for name, encode in (
            ("images", images),
            ("means", mean_concentrations),
            ("profiles", standardised_profiles(standardisation)),
        )
    }

    assert found["profiles"].mare_star < 1e-4
    assert found["profiles"].overlap_percent == 0
    assert found["means"].overlap_percent == 0
    assert found["images"].overlap_percent > 50
    assert [found[name].dimension for name in found] == [14 * 37 * 37, 14, 304]
