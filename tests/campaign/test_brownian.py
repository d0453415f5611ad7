from dataclasses import replace

import h5py
import numpy as np
import pytest
from scipy.stats import chi2

from campaign.lone_counts import LoneProfiles, ring_crowding
from campaign.molecular_dynamics import brownian
from campaign.molecular_dynamics.brownian import BrownianEngine
from campaign.molecular_dynamics.brownian_kernels import add_radial_fields, advance, field_at
from campaign.molecular_dynamics.job import BadInput
from campaign.molecular_dynamics.settings import BrownianSettings
from continuum.philox import key_of
from continuum.potential_inversion import shell_areas
from tests.campaign.md_laboratory import (
    CHOL,
    MRAFA,
    MRASA,
    PAP6,
    RASA,
    RASB,
    patch_of,
    tables,
)

BOX = 30.0
FEW = np.full(8, 0.02)
RINGS_NM = np.array([0.0, 0.4, 0.8, 1.2, 1.6, 2.0, 2.5, 3.0, 4.0, 5.0, 6.5, 8.0, 12.0])


def engine_of(**settings):
    return BrownianEngine(BrownianSettings(**settings), tables())


def moved(position, field, *, frames, steps_per_frame=1, step_nm=0.3, seed=1, first=0, bins=600):
    """Positions after some frames, and the counts around the middle of the box."""
    position = position.copy()
    counts = np.zeros((1, len(field), bins), dtype=np.int64)
    near = np.zeros((frames, len(field)), dtype=np.int64)
    accepted = advance(
        position,
        np.zeros(len(position), dtype=np.int64),
        field,
        np.full(len(field), step_nm),
        np.array([[BOX / 2, BOX / 2]]),
        counts,
        near,
        first,
        frames,
        steps_per_frame,
        BOX,
        0.02,
        3.0,
        *key_of(seed),
    )
    return position, counts[0], near, accepted


def binned(per_bin):
    """Sums over the rings of RINGS_NM of (..., 600)."""
    edges = np.round(RINGS_NM / 0.02).astype(int)
    return np.add.reduceat(per_bin, edges[:-1], axis=-1)


def test_free_particles_diffuse_at_their_rate():
    """<x²> = 2 D t along each axis, Gaussian, and independent of each other."""
    start = np.full((20_000, 2), BOX / 2)
    end, _, _, accepted = moved(start, np.zeros((1, 300, 300)), frames=20, step_nm=0.25)
    assert accepted == 20 * 20_000
    away = end - start
    assert np.abs(away.mean(axis=0)).max() < 5.0 * 0.25 * np.sqrt(20 / 20_000)
    np.testing.assert_allclose((away**2).mean(axis=0), 20 * 0.25**2, rtol=0.04)
    assert abs((away[:, 0] * away[:, 1]).mean()) < 5.0 * 1.25 / np.sqrt(20_000)
    assert (away**4).mean() / (away**2).mean() ** 2 == pytest.approx(3.0, abs=0.15)


def test_the_stationary_density_is_exact_however_long_the_steps():
    """exp(-W) of a rugged field, from steps as long as its wells are wide."""
    x = np.arange(300) * 0.1
    field = (1.5 * np.cos(2 * np.pi * x / 6.0) - 0.8 * np.sin(2 * np.pi * x / 15.0))[None, :]
    field = field + np.cos(2 * np.pi * x / 10.0)[:, None]
    rng = np.random.default_rng(4)
    weights = np.exp(-field.ravel())
    node = rng.choice(field.size, 60_000, p=weights / weights.sum())
    start = (np.stack([node % 300, node // 300], axis=1) + rng.random((60_000, 2)) - 0.5) * 0.1
    end, *_ = moved(start % BOX, field[None], frames=30, step_nm=1.5)
    for axis in (0, 1):
        energy = (field if axis == 0 else field.T)[0]
        expected = np.add.reduceat(np.exp(-energy), np.arange(0, 300, 10))
        # a node stands for the 0.1 nm around it
        seen = np.histogram((end[:, axis] + 0.05) % BOX, bins=30, range=(0.0, BOX))[0]
        expected = expected / expected.sum() * len(end)
        excess = ((seen - expected) ** 2 / expected).sum()
        assert excess < chi2.ppf(0.9999, 29)


def test_a_trajectory_does_not_depend_on_how_it_is_cut_into_calls():
    rng = np.random.default_rng(5)
    start = rng.random((50, 2)) * BOX
    field = rng.random((1, 300, 300))
    whole, counts, near, _ = moved(start, field, frames=12, steps_per_frame=3)
    first, early, near_1, _ = moved(start, field, frames=5, steps_per_frame=3)
    second, late, near_2, _ = moved(first, field, frames=7, steps_per_frame=3, first=5)
    np.testing.assert_array_equal(second, whole)
    np.testing.assert_array_equal(early + late, counts)
    np.testing.assert_array_equal(np.concatenate([near_1, near_2]), near)
    other = moved(start, field, frames=12, steps_per_frame=3, seed=2)[0]
    assert np.abs(other - whole).min() > 0


def test_lipids_are_counted_in_rings_around_nearest_images():
    place = np.array([[15.0, 15.0], [16.5, 15.0], [15.0, 27.01], [0.01, 15.0], [29.99, 15.0]])
    _, counts, near, _ = moved(place, np.zeros((1, 300, 300)), frames=1, step_nm=1e-9, bins=900)
    assert np.flatnonzero(counts[0]).tolist() == [0, 75, 600, 749]
    assert counts[0, 749] == 2
    assert near.tolist() == [[2]]


def test_fields_are_sums_over_nearest_images():
    """Against a slow sum over nine images of each bead."""
    radii_nm = np.arange(0.0, 12.05, 0.1)
    table = np.stack([np.exp(-radii_nm), np.cos(radii_nm)])[None] * (radii_nm < 10.0)
    bead = np.array([[1.0, 29.5], [20.03, 7.77]])
    field = np.ones((2, 60, 60))
    add_radial_fields(field, bead, np.zeros(2, dtype=np.int64), table, 0.1, BOX)
    y, x = np.meshgrid(np.arange(60) * 0.5, np.arange(60) * 0.5, indexing="ij")
    slow = np.ones((2, 60, 60))
    for bx, by in bead:
        for image_x in (-BOX, 0.0, BOX):
            for image_y in (-BOX, 0.0, BOX):
                distance = np.hypot(x - bx - image_x, y - by - image_y)
                for lipid in (0, 1):
                    slow[lipid] += np.interp(distance, radii_nm, table[0, lipid], right=0.0)
    np.testing.assert_allclose(field, slow, atol=1e-12)


def test_fields_are_read_bilinearly_and_periodically():
    field = np.arange(16.0).reshape(4, 4)
    nodes_per_nm = 4 / BOX
    assert field_at(field, 7.5, 15.0, nodes_per_nm) == 9.0
    assert field_at(field, 11.25, 15.0, nodes_per_nm) == pytest.approx(9.5)
    assert field_at(field, 26.25, 26.25, nodes_per_nm) == pytest.approx((15 + 12 + 3 + 0) / 4)


def test_a_lone_protein_has_the_continuums_equilibrium_around_it(tmp_path):
    """PAP6 is made as frequent as CHOL, which changes nothing for independent particles."""
    density = np.full(8, 0.12)
    density[PAP6] = 0.9
    result = engine_of().run(patch_of(RASA, density=density), 3, 60.0, tmp_path)
    per_frame = result.effective_frames / result.frames
    seen = binned(result.counts[RASA]) * per_frame
    profiles = LoneProfiles(radii_nm=tables().radii_nm, g=tables().g)
    expected = binned(shell_areas(600) * profiles.at_bins[RASA])
    expected *= seen.sum(axis=1, keepdims=True) / expected.sum(axis=1, keepdims=True)
    # rings forget faster than the whole neighbourhood does: less than one per degree of freedom
    excess = (seen - expected) ** 2 / expected
    assert excess.mean() < 0.5
    depth_kt = np.log(seen[PAP6] / expected[PAP6])
    assert abs(depth_kt[:5].mean()) < 0.02 * 2.48
    assert np.abs(depth_kt[1:]).max() < 0.04 * 2.48
    # a positive control: the truth is far from what the continuum starts with
    assert tables().g[RASA, PAP6, 0] > 7.0
    assert seen[PAP6, 0] / seen[CHOL, 0] > 5.0 * seen[PAP6, -1] / seen[CHOL, -1]


def test_neighbours_multiply_what_is_counted(tmp_path):
    """Kirkwood's superposition around both beads of a complex with another protein close by."""
    patch = patch_of(MRASA, density=np.full(8, 0.25), beads=[(MRAFA, 3.0, 0.0), (RASB, -2.0, 4.0)])
    result = engine_of().run(patch, 5, 40.0, tmp_path)
    profiles = LoneProfiles(radii_nm=tables().radii_nm, g=tables().g)
    per_frame = result.effective_frames / result.frames
    for state in (MRASA, MRAFA):
        crowding = ring_crowding(result.surroundings, state, profiles)
        expected = binned(shell_areas(600) * profiles.at_bins[state] * crowding)
        seen = binned(result.counts[state]) * per_frame
        expected *= seen.sum(axis=1, keepdims=True) / expected.sum(axis=1, keepdims=True)
        assert ((seen - expected) ** 2 / expected).mean() < 0.5
        assert abs(np.log(seen / expected)[:, :8].mean()) < 0.02
        assert crowding[PAP6].max() > 1.7


def test_counts_scatter_as_the_effective_frames_say(tmp_path):
    """PAP6 within 3 nm, which the slowest time is about, over independent simulations."""
    engine = engine_of()
    density = np.full(8, 0.01)
    density[PAP6] = 0.3
    runs = [engine.run(patch_of(RASA, density=density), seed, 8.0, tmp_path) for seed in range(40)]
    near = np.array([run.counts[RASA, PAP6, :150].sum() / run.frames for run in runs])
    effective = np.mean([run.effective_frames for run in runs])
    assert 0.5 < near.var() / (near.mean() / effective) < 2.0
    assert all(run.effective_frames < run.frames / 2 for run in runs)


def test_numbers_of_lipids_are_those_of_the_patch(tmp_path):
    density = np.array([0.01, 0.02, 0.03, 0.04, 0.05, 0.0605, 0.07, 0.08])
    patch = patch_of(density=density)
    numbers = [np.bincount(engine_of()._lipids(patch, seed), minlength=8) for seed in range(200)]
    expected = density * 900.0
    assert np.abs(np.array(numbers) - expected).max() < 1.0
    assert np.mean(numbers, axis=0)[5] == pytest.approx(54.45, abs=0.15)


def test_densities_are_integrated_over_the_square_not_over_its_nodes(tmp_path):
    patch = patch_of(density=FEW)
    density = patch.batch.density.copy()
    density[0, 0, 0, :] = 3.0  # one edge: half a row of 36
    patch = replace(patch, batch=replace(patch.batch, density=density))
    numbers = np.bincount(engine_of()._lipids(patch, 1))
    assert abs(numbers[0] - 900.0 * (0.02 + 2.98 / 72)) <= 1.0


def test_a_lipid_that_is_missing_is_bad_input(tmp_path):
    density = FEW.copy()
    density[PAP6] = -0.001
    with pytest.raises(BadInput, match=r"the mean density of inner PAP6 must be > 0, got -0\.001"):
        engine_of().run(patch_of(density=density), 1, 1.0, tmp_path)
    with pytest.raises(BadInput, match=r"duration_us must be >= 0\.02"):
        engine_of().run(patch_of(density=FEW), 1, 0.001, tmp_path)


def test_a_patch_without_protein_is_simulated_and_counts_nothing(tmp_path):
    result = engine_of().run(patch_of(-1, density=FEW), 1, 1.0, tmp_path)
    assert not result.counts.any()
    assert result.frames == 50


def test_a_killed_simulation_continues_to_the_same_end(tmp_path):
    """Checkpoints change nothing; one is used, whole, and by its own job alone."""
    patch, other_patch = patch_of(density=FEW), patch_of(density=FEW * 1.1)
    engine = engine_of(checkpoint_interval_us=0.5)
    undisturbed = engine_of().run(patch, 9, 2.0, tmp_path / "none")
    assert not (tmp_path / "none").exists()
    work = tmp_path / "work"
    assert engine.run(patch, 9, 2.0, work).crc32() == undisturbed.crc32()
    checkpoint = work / "checkpoint.h5"
    with h5py.File(checkpoint) as file:
        assert file.attrs["frame"] == 75
    assert engine.run(patch, 9, 2.0, work).crc32() == undisturbed.crc32()
    # what a checkpoint says is believed by this very job only
    with h5py.File(checkpoint, "r+") as file:
        file["counts"][0, 0, 599] += 1_000_000
    whole = checkpoint.read_bytes()
    resumed = engine.run(patch, 9, 2.0, work)
    assert resumed.counts[RASA, 0, 599] > 1_000_000
    for patch_, seed, duration_us in ((other_patch, 9, 2.0), (patch, 8, 2.0), (patch, 9, 2.5)):
        checkpoint.write_bytes(whole)
        result = engine.run(patch_, seed, duration_us, work)
        assert result.counts.max() < 1_000_000
    checkpoint.write_bytes(whole[:3000])
    assert engine.run(patch, 9, 2.0, work).crc32() == undisturbed.crc32()


def test_the_checkpoint_interval_does_not_matter(tmp_path):
    patch = patch_of(density=FEW)
    crcs = {
        engine_of(checkpoint_interval_us=every).run(patch, 2, 1.5, tmp_path / str(every)).crc32()
        for every in (0.02, 0.3, 5.0)
    }
    assert len(crcs) == 1


def test_compiled_code_returns_often():
    """So that a worker notices that its pool is gone."""
    assert brownian._BLOCK_FRAMES * BrownianSettings().frame_interval_us <= 1.0
