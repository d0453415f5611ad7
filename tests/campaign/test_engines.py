import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from campaign.molecular_dynamics.brownian import BrownianEngine
from campaign.molecular_dynamics.command import CommandEngine
from campaign.molecular_dynamics.engines import check_engine, get_engine
from campaign.molecular_dynamics.hidden_truth import (
    read_truth,
    true_model,
    write_truth,
)
from campaign.molecular_dynamics.job import BadInput, BadOutput, EngineCrash
from campaign.molecular_dynamics.patch import read_patch
from campaign.molecular_dynamics.poisson import PoissonEngine
from campaign.molecular_dynamics.settings import (
    BrownianSettings,
    CommandSettings,
    EnginesSection,
    HiddenTruth,
    PoissonSettings,
)
from campaign.single_thread import single_threaded
from continuum.configuration import read_configuration
from continuum.parameters import INNER
from continuum.potential_inversion import shell_areas
from continuum.radial_equilibrium import equilibrium_profiles, potential_on, radial_correlation
from tests.campaign.md_laboratory import (
    MRAFA,
    MRASA,
    PAP6,
    RASA,
    START,
    STATES,
    TRUTH,
    patch_of,
    tables,
    write_batch,
)

EXAMPLE = ["{python}", "-m", "campaign.molecular_dynamics.example_engine"]
ARGUMENTS = ["{patch}", "{output}", "{seed}", "{duration_us}"]


def expected_per_frame(state):
    """n_i 2π r dr g*(r) from the truth's own profiles, (8, 600)."""
    operator = radial_correlation(TRUTH.lipids, TRUTH.correlation)
    with single_threaded():
        u = potential_on(operator.radii_nm, TRUTH.potentials, state)
        g = equilibrium_profiles(operator, u)
    inner = TRUTH.lipids.leaflet == INNER
    at_bins = CubicSpline(operator.radii_nm, g[inner], axis=1)((np.arange(600) + 0.5) * 0.02)
    return TRUTH.lipids.bulk_density[inner][:, None] * shell_areas(600) * at_bins


def poisson(**settings):
    return PoissonEngine(PoissonSettings(**settings), tables())


def test_poisson_counts_have_the_mean_and_variance_of_independent_frames(tmp_path):
    engine = poisson(effective_frames_per_us=3.0)
    runs = np.array(
        [engine.run(patch_of(RASA), seed, 100.0, tmp_path).counts[RASA] for seed in range(40)]
    )
    expected = 300.0 * expected_per_frame(RASA)
    standardised = (runs - expected) / np.sqrt(expected)
    assert abs(standardised.mean()) < 5.0 / np.sqrt(runs.size)
    assert standardised.var() == pytest.approx(1.0, abs=0.02)
    by_lipid = standardised.mean(axis=(0, 2)) * np.sqrt(40 * 600)
    assert np.abs(by_lipid).max() < 4.5


def test_only_the_central_protein_and_its_ligand_are_counted(tmp_path):
    bystander = (RASA, 6.0, 2.0)
    result = poisson().run(patch_of(MRASA, beads=[(MRAFA, 3.0, 0.0), bystander]), 1, 50.0, tmp_path)
    assert np.flatnonzero(result.counts.any(axis=(1, 2))).tolist() == [MRASA, MRAFA]
    assert not poisson().run(patch_of(-1), 1, 50.0, tmp_path).counts.any()


def test_frames_are_honest(tmp_path):
    result = poisson().run(patch_of(), 1, 50.0, tmp_path)
    assert (result.frames, result.effective_frames, result.simulated_us) == (100, 100.0, 50.0)
    short = poisson().run(patch_of(), 1, 0.1, tmp_path)
    assert (short.frames, short.effective_frames) == (1, 0.2)


@pytest.mark.parametrize("engine", [poisson(), BrownianEngine(BrownianSettings(), tables())])
def test_a_result_depends_on_patch_seed_and_duration_alone(engine, tmp_path):
    patch = patch_of(density=np.full(8, 0.02))
    first = engine.run(patch, 5, 0.4, tmp_path / "a").crc32()
    assert engine.run(patch, 5, 0.4, tmp_path / "b").crc32() == first
    assert engine.run(patch, 6, 0.4, tmp_path / "c").crc32() != first


def test_the_truth_is_the_model_at_its_own_strength():
    configuration = read_configuration("laptop-pre-campaign")
    weak = true_model(HiddenTruth(strength=0.4), configuration)
    np.testing.assert_array_equal(weak.potentials.u, START.potentials.u)
    wells = TRUTH.potentials.u[:, PAP6].min(axis=1)
    assert wells[RASA] == pytest.approx(-2.48, abs=0.01)
    table = configuration.potentials.model_copy(update={"table": "v000001.h5"})
    with pytest.raises(ValueError, match=r"hidden_truth\.strength needs analytic potentials"):
        true_model(HiddenTruth(), configuration.model_copy(update={"potentials": table}))


def test_truth_tables_come_back_from_disk(tmp_path):
    path = tmp_path / "hidden-truth.h5"
    write_truth(path, tables())
    back = read_truth(path)
    for name in ("radii_nm", "g", "bulk_density", "diffusivity", "ligand_of", "u", "u_dr_nm"):
        np.testing.assert_array_equal(getattr(back, name), getattr(tables(), name))
    assert back.state_names == tuple(STATES)
    assert back.ligand_of.tolist() == [-1, -1, -1, 6, 7, 8, -1, -1, -1]
    with pytest.raises(FileNotFoundError):
        read_truth(tmp_path / "none.h5")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"hidden-truth\.h5 is not a whole"):
        read_truth(path)


def test_a_patch_of_another_membrane_is_bad_input(tmp_path):
    renamed = replace(tables(), state_names=tuple(name.lower() for name in STATES))
    with pytest.raises(BadInput, match="is of the protein states"):
        PoissonEngine(PoissonSettings(), renamed).run(patch_of(), 1, 1.0, tmp_path)
    relabelled = replace(tables(), lipid_labels=("inner POPC",))
    with pytest.raises(BadInput, match="is of the inner lipids"):
        PoissonEngine(PoissonSettings(), relabelled).run(patch_of(), 1, 1.0, tmp_path)


def test_patches_are_read_one_by_one(tmp_path):
    patches = [
        patch_of(RASA, 0, beads=[(2, 4.0, -3.0)]),
        patch_of(MRASA, 1, beads=[(MRAFA, 3.0, 0.0)]),
        patch_of(-1, 2, density=np.arange(1, 9) / 10),
    ]
    path = tmp_path / "patches.h5"
    write_batch(path, patches, snapshot_index=3)
    for slot, patch in enumerate(patches):
        read = read_patch(path, (3 << 20) + slot)
        assert read.patch_id == (3 << 20) + slot
        assert read.central_state == patch.central_state
        np.testing.assert_array_equal(read.bead_state, patch.bead_state)
        np.testing.assert_array_equal(read.bead_position_nm, patch.bead_position_nm)
        np.testing.assert_array_equal(read.density, patch.density)
        assert read.species == START.lipids.labels


def test_patches_that_are_not_there_are_bad_input(tmp_path):
    path = tmp_path / "patches.h5"
    with pytest.raises(BadInput, match=r"patches\.h5: cannot read patch 0"):
        read_patch(path, 0)
    write_batch(path, [patch_of()])
    with pytest.raises(BadInput, match="holds 1 patches, but not patch 1"):
        read_patch(path, 1)
    damaged = tmp_path / "damaged.h5"
    damaged.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(BadInput, match=r"damaged\.h5: cannot read patch 0"):
        read_patch(damaged, 0)


def test_poisonous_patches_are_bad_input():
    with pytest.raises(BadInput, match="densities and positions must be finite"):
        patch_of(density=np.full(8, np.nan))
    with pytest.raises(BadInput, match="bead states must be 0 to 8"):
        patch_of(beads=[(9, 1.0, 1.0)])
    batch = replace(patch_of(RASA).batch, central_state=np.array([1], dtype=np.int8))
    with pytest.raises(BadInput, match="the bead at the centre must be of state 1"):
        replace(patch_of(), batch=batch)


def test_mock_engines_need_a_truth():
    with pytest.raises(ValueError, match="needs the tables of a hidden truth"):
        get_engine(PoissonSettings(), None)
    assert isinstance(get_engine(PoissonSettings(), tables()), PoissonEngine)
    assert isinstance(get_engine(BrownianSettings(), tables()), BrownianEngine)


def test_settings_that_cannot_work_are_refused_before_any_job():
    with pytest.raises(ValueError, match=r"whole multiple of brownian\.time_step_us = 0\.004"):
        check_engine(BrownianSettings(frame_interval_us=0.05, time_step_us=0.004))
    with pytest.raises(ValueError, match="program '/no/such/program' must exist"):
        check_engine(CommandSettings(argv=["/no/such/program", "{patch}"]))
    with pytest.raises(ValueError, match=r"{ouput} in '--to={ouput}' is unknown; placeholders are"):
        check_engine(CommandSettings(argv=["{python}", "--to={ouput}"]))
    with pytest.raises(ValueError, match="is not a template"):
        check_engine(CommandSettings(argv=["{python}", "{"]))
    with pytest.raises(ValueError, match=r"set molecular_dynamics\.engines\.command\.argv"):
        EnginesSection().of("command")
    with pytest.raises(ValueError, match="engine must be one of poisson, brownian, command"):
        EnginesSection().of("gromacs")


def test_the_example_program_is_an_engine(tmp_path):
    engine = CommandEngine(CommandSettings(argv=EXAMPLE + ARGUMENTS))
    result = engine.run(patch_of(MRASA), 3, 500.0, tmp_path / "work")
    assert (result.frames, result.simulated_us) == (1000, 500.0)
    per_frame = result.counts[MRASA].sum(axis=1) / 1000
    expected = START.lipids.bulk_density[:8] * np.pi * 12.0**2
    np.testing.assert_allclose(per_frame, expected, rtol=0.02)
    assert result.crc32() == engine.run(patch_of(MRASA), 3, 500.0, tmp_path / "w2").crc32()


def program(tmp_path, code):
    """An engine that runs this code with h5py, numpy and the paths in place."""
    script = tmp_path / "engine.py"
    script.write_text(f"import sys, os, h5py, numpy as np\npatch, output = sys.argv[1:3]\n{code}\n")
    return CommandEngine(CommandSettings(argv=[sys.executable, str(script), "{patch}", "{output}"]))


def writing(counts="np.ones((9, 8, 600))", frames="10", effective="5.0", us="1.0"):
    return (
        f"f = h5py.File(output, 'w'); f['counts'] = {counts}\n"
        f"f.attrs.update(frames={frames}, effective_frames={effective}, simulated_us={us})\n"
    )


def test_a_program_reads_the_patch_as_everyone_does(tmp_path):
    code = (
        "from continuum.patch_files import read_patches\n"
        "batch = read_patches(patch)\n"
        + writing("np.full((9, 8, 600), batch.n_ras[0] * len(batch))")
    )
    engine = program(tmp_path, code)
    assert (engine.run(patch_of(), 1, 1.0, tmp_path / "w").counts == 1.0).all()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("pass", "ended well but did not write output.h5"),
        ("open(output, 'w').write('nonsense')", "is not a whole output file"),
        ("h5py.File(output, 'w')['other'] = 1", "is not a whole output file"),
        (writing("np.ones((8, 600))"), r"must be of shape \(9, 8, 600\), got \(8, 600\)"),
        (writing("np.full((9, 8, 600), np.nan)"), "finite and >= 0"),
        (writing("-np.ones((9, 8, 600))"), "finite and >= 0"),
        (writing("'text'"), r"output\.h5 cannot be used: could not convert"),
        (writing(frames="0"), "frames must be >= 1"),
        (writing(frames="2.5"), "frames must be whole"),
        (writing(effective="11.0"), "<= frames = 10"),
        (writing(us="np.inf"), "all times finite"),
    ],
)
def test_nonsense_from_a_program_is_bad_output(code, message, tmp_path):
    with pytest.raises(BadOutput, match=message):
        program(tmp_path, code).run(patch_of(), 1, 1.0, tmp_path / "w")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("print('out of paper'); sys.exit(3)", "ended with code 3; its last words: out of paper"),
        ("os.kill(os.getpid(), 9)", "ended with signal 9"),
        (writing() + "f.close(); sys.exit(1)", "ended with code 1"),
    ],
)
def test_a_program_that_fails_is_a_crash_whatever_it_left(code, message, tmp_path):
    with pytest.raises(EngineCrash, match=message):
        program(tmp_path, code).run(patch_of(), 1, 1.0, tmp_path / "w")


def test_the_output_of_an_earlier_attempt_does_not_count(tmp_path):
    program(tmp_path, writing()).run(patch_of(), 1, 1.0, tmp_path / "w")
    with pytest.raises(BadOutput, match="did not write"):
        program(tmp_path, "pass").run(patch_of(), 1, 1.0, tmp_path / "w")


def test_a_program_that_went_missing_is_a_crash(tmp_path):
    script = tmp_path / "tool"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    engine = CommandEngine(CommandSettings(argv=[str(script)]))
    script.unlink()
    with pytest.raises(EngineCrash, match="cannot be started"):
        engine.run(patch_of(), 1, 1.0, tmp_path / "w")


def test_arguments_never_meet_a_shell(tmp_path):
    script = tmp_path / "engine.py"
    script.write_text(
        "import sys, h5py, numpy as np\n"
        "assert sys.argv[3] == '$(touch oops); {x} 7 0.5', sys.argv\n"
        "f = h5py.File(sys.argv[2], 'w'); f['counts'] = np.ones((9, 8, 600))\n"
        "f.attrs.update(frames=1, effective_frames=1.0, simulated_us=1.0)\n"
    )
    argv = [sys.executable, str(script), "{patch}", "{output}"]
    argv.append("$(touch oops); {{x}} {seed} {duration_us}")
    CommandEngine(CommandSettings(argv=argv)).run(patch_of(), 7, 0.5, tmp_path / "w")
    assert h5py.is_hdf5(tmp_path / "w" / "output.h5")
    assert not (tmp_path / "w" / "oops").exists()
