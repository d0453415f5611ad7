import numpy as np
import pytest
import yaml

from continuum.configuration import (
    ConfigurationError,
    configuration_hash,
    load_model,
    preset_names,
    read_configuration,
    resolved_yaml,
)
from continuum.parameter_versions import ParameterVersion, write_parameter_version
from continuum.parameters import INNER, OUTER


def test_the_presets_of_the_design_are_there():
    assert set(preset_names()) == {
        "campaign",
        "gpcr",
        "laptop",
        "laptop-post-campaign",
        "laptop-pre-campaign",
        "post-campaign",
        "pre-campaign",
        "published",
        "soft-prototype",
    }


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_builds_and_its_resolved_yaml_reads_back_equal(name, tmp_path):
    configuration = read_configuration(name)
    written = tmp_path / "resolved.yaml"
    written.write_text(resolved_yaml(configuration))
    again = read_configuration(written)
    assert again == configuration
    assert configuration_hash(again) == configuration_hash(configuration)
    assert resolved_yaml(again) == resolved_yaml(configuration)
    first, second = load_model(name), load_model(written)
    np.testing.assert_array_equal(first.potentials.u, second.potentials.u)
    np.testing.assert_array_equal(first.lipids.area_weight, second.lipids.area_weight)
    assert first.proteins == second.proteins
    assert (first.membrane, first.numerics, first.output) == (
        second.membrane,
        second.numerics,
        second.output,
    )


def test_resolved_yaml_leaves_nothing_to_a_default():
    def keys(tree, path=()):
        for key, value in tree.items():
            yield (*path, key)
            if isinstance(value, dict):
                yield from keys(value, (*path, key))

    resolved = set(keys(yaml.safe_load(resolved_yaml(read_configuration("laptop")))))
    for path in ("numerics.noise.range_nm", "output.compression", "description"):
        assert tuple(path.split(".")) in resolved
    assert ("proteins", "initial_populations", "zRASa_zRAFa") in resolved


def test_the_channels_are_those_of_the_contract():
    lipids = load_model("published").lipids
    inner = ["POPC", "PAPC", "POPE", "DIPE", "DPSM", "PAPS", "PAP6", "CHOL"]
    outer = ["POPC", "PAPC", "POPE", "DIPE", "DPSM", "CHOL"]
    assert lipids.names == tuple(inner + outer)
    assert lipids.leaflet.tolist() == [INNER] * 8 + [OUTER] * 6
    assert [state.name for state in load_model("published").proteins.states] == (
        ["RASa", "RASb", "RASc", "zRASa", "mRASa", "mRASb", "zRAFa", "mRAFa", "mRAFb"]
    )


def test_the_reference_numbers_of_membrane_physics_7():
    model = load_model("published")
    lipids, correlation = model.lipids, model.correlation
    # 7.1, printed to four digits
    printed = [0.2294, 0.1237, 0.0891, 0.2656, 0.1782, 0.2656, 0.0363, 0.4620]
    printed += [0.4325, 0.2154, 0.0356, 0.1086, 0.4308, 0.5571]
    np.testing.assert_allclose(lipids.bulk_density, printed, rtol=0, atol=6e-5)
    np.testing.assert_allclose(lipids.leaflet_density(), [1.65, 1.78], rtol=1e-12)
    assert np.mean(lipids.diffusivity[:8]) == pytest.approx(43.36, abs=1e-12)
    # 7.2
    weights = [1.128, 1.163, 1.075, 1.163, 0.969, 1.128, 1.233, 0.705]
    np.testing.assert_allclose(lipids.area_weight[:8], weights, rtol=0, atol=6e-4)
    np.testing.assert_allclose(correlation.repulsion.strength, [7.717, 7.153], atol=6e-4)
    (coupling,) = correlation.couplings
    index = {label: i for i, label in enumerate(lipids.labels)}

    def between(one, other):
        return coupling.matrix[index[one], index[other]]

    assert between("inner DPSM", "inner CHOL") == between("outer CHOL", "outer DPSM") == 0.12
    assert between("inner PAP6", "inner PAP6") == -0.40
    assert between("inner DPSM", "outer CHOL") == between("outer DPSM", "inner CHOL") == 0.03
    assert between("inner PAP6", "outer DIPE") == 0.02
    assert between("inner PAP6", "outer DPSM") == between("outer PAPC", "inner CHOL") == -0.02
    assert between("inner POPC", "outer POPC") == between("inner POPE", "inner POPE") == 0.0


def test_narrower_or_wider_couplings_keep_their_integral():
    published, laptop = load_model("published"), load_model("laptop")
    for one, other in zip(
        published.correlation.couplings, laptop.correlation.couplings, strict=True
    ):
        assert other.range_nm == 1.2
        np.testing.assert_allclose(
            other.matrix * other.range_nm**2, one.matrix * one.range_nm**2, rtol=1e-14
        )


def test_potentials_follow_the_formula_where_the_taper_is_one():
    model = load_model("published", ["potentials.strength=0.7"])
    r = model.potentials.radii_nm
    inside = r <= 8.0
    index = {state.name: i for i, state in enumerate(model.proteins.states)}
    core = np.exp(-0.5 * (r / 0.6) ** 2)
    cases = [
        ("RASa", 6, 0.7 * 1.15 * -2.2 * np.exp(-0.5 * (r / 2.0) ** 2) + 0.8 * core),
        ("mRAFb", 5, 0.7 * 0.40 * 1.6 * -0.6 * np.exp(-0.5 * (r / 2.2) ** 2) + 1.2 * core),
        ("mRASb", 5, 0.7 * 0.50 * -0.6 * np.exp(-0.5 * (r / 2.2) ** 2) + 0.8 * core),
        ("zRAFa", 6, 0.0 * r),
        ("RASa", 8, 0.0 * r),
    ]
    for state, lipid, expected in cases:
        u = model.potentials.u[index[state], lipid]
        np.testing.assert_allclose(u[inside], expected[inside], rtol=0, atol=1e-14)


def test_potentials_end_at_the_cutoff_with_zero_value_and_slope():
    potentials = load_model("published", ["potentials.strength=1.2"]).potentials
    assert potentials.radii_nm[-1] == pytest.approx(11.0)
    assert not potentials.u[:, :, -1].any()
    slope = np.diff(potentials.u, axis=2) / potentials.dr_nm
    assert np.abs(slope[:, :, -1]).max() < 1e-6
    bend = np.diff(slope, axis=2)
    assert np.abs(bend[:, :, potentials.radii_nm[1:-1] > 7.5]).max() < 1e-3


def test_starting_populations_are_stationary_under_the_rates():
    proteins = load_model("published").proteins
    population = dict(proteins.initial_populations)
    flow = dict.fromkeys(population, 0.0)
    jumps = [
        (t.source, t.target, t.rate_per_us)
        for t in proteins.free_transitions + proteins.complex_transitions
    ]
    jumps += [(u.complex, u.target_state, u.rate_per_us) for u in proteins.unbinding]
    jumps += [(s, b.complex, b.rate_per_us) for b in proteins.binding for s in proteins.free_states]
    for source, target, rate in jumps:
        flow[source] -= rate * population[source]
        flow[target] += rate * population[source]
    assert max(abs(value) for value in flow.values()) < 1e-14
    bound = sum(population[c.name] for c in proteins.complexes)
    assert bound == pytest.approx(1 / 3, abs=1e-3)  # membrane-physics 7.5


def test_nothing_about_ras_is_needed():
    model = load_model("gpcr")
    assert model.proteins.kinds == ("GPCR", "GPROTEIN")
    assert model.proteins.binding_sources(model.proteins.binding[0]) == ("inactive", "active")
    outer = model.lipids.leaflet == OUTER
    assert np.abs(model.potentials.u[:3][:, outer]).max() > 1.0


def test_a_file_lays_its_values_over_a_preset(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("preset: laptop\nproteins:\n  count: 3\n  pairs: {RAF-RAF: null}\n")
    model = load_model(mine, ["seed=99", "numerics.time_step_us=5e-3"])
    assert (model.proteins.count, model.seed, model.numerics.time_step_us) == (3, 99, 0.005)
    assert model.proteins.pair_between("RAF", "RAF") is None
    assert model.proteins.pair_between("RAF", "RAS") == model.proteins.pair_between("RAS", "RAF")
    assert model.membrane.cells == 300


def test_a_table_is_found_beside_the_file_that_names_it(tmp_path):
    model = load_model("laptop")
    version = ParameterVersion(
        version=3,
        potentials=model.potentials,
        state_names=tuple(state.name for state in model.proteins.states),
        lipid_labels=model.lipids.labels,
        provenance="test",
    )
    write_parameter_version(tmp_path, version)
    mine = tmp_path / "mine.yaml"
    mine.write_text("preset: laptop\npotentials: {strength: 0.0, table: v000003.h5}\n")
    np.testing.assert_array_equal(load_model(mine).potentials.u, model.potentials.u)
    with pytest.raises(ConfigurationError, match=r"potentials\.table must be a table of the prot"):
        load_model("gpcr", [f"potentials.table={tmp_path / 'v000003.h5'}"])


def test_the_hash_sees_physics_and_not_the_duration():
    hashes = {
        configuration_hash(read_configuration("laptop", [override]))
        for override in ("seed=1", "duration_us=7.0", "output.checkpoint_every=3")
    }
    assert len(hashes) == 1
    changed = [
        "seed=2",
        "lipids.outer.CHOL.density_per_nm2=0.56",
        "proteins.unbinding_per_us.zRASa_zRAFa.RASa=0.11",
        "output.control_patches=4",
    ]
    for override in changed:
        hashes.add(configuration_hash(read_configuration("laptop", [override])))
    assert len(hashes) == 1 + len(changed)


REFUSALS = [
    (["membrane.cell=300"], r"unknown key membrane\.cell = 300; .* did you mean 'cells'\?"),
    (["side_nm=300"], r"unknown key side_nm = 300; .* did you mean 'membrane\.side_nm'\?"),
    (
        ["lipids.inner.POPC.density_per_nm2=-0.1"],
        r"inner\.POPC\.density_per_nm2 must be > 0.*-0\.1",
    ),
    (["lipids.inner.POPC.density_per_nm2=0"], r"density_per_nm2 must be > 0.*got 0"),
    (["lipids.inner.POPC.diffusivity_nm2_per_us=-1"], r"diffusivity_nm2_per_us must be > 0"),
    (
        ["lipids.inner.POPC.density_per_nm2=.nan"],
        r"density_per_nm2 must be a finite number, got nan",
    ),
    (["potentials.strength=.inf"], r"potentials\.strength must be a finite number, got inf"),
    (["membrane.cells=302"], r"membrane\.cells must be a multiple of 4, got 302"),
    (["proteins.count=1.5"], r"proteins\.count must be a whole number, got 1\.5"),
    (["proteins.count=true"], r"proteins\.count must be a whole number, got True"),
    (["numerics.precision=half"], r"precision must be 'single' or 'double', got 'half'"),
    (["membrane=null"], r"membrane is required, got nothing"),
    (["membrane=3"], r"membrane must be a mapping of keys to values, got 3"),
    (
        ["correlation.same_leaflet.pairs.CHOL-DPSM=0.1"],
        r"CHOL-DPSM must be given once, DPSM-CHOL says it already",
    ),
    (
        ["correlation.same_leaflet.pairs.CHOL-DPSN=0.1"],
        r"must name inner or outer lipids, .*got 'DPSN'; did you mean 'DPSM'\?",
    ),
    (
        ["correlation.across_leaflets.pairs.CHOL-PAP6=0.1"],
        r"across_leaflets\.pairs\.CHOL-PAP6 must name outer lipids, .*got 'PAP6'",
    ),
    (
        ["correlation.across_leaflets.group_pairs.saturated-unsat=0.1"],
        r"must name groups, .*got 'unsat'; did you mean 'unsaturated'\?",
    ),
    (
        ["correlation.across_leaflets.groups.saturated=[DPSM, COL]"],
        r"groups\.saturated must name .* got 'COL'",
    ),
    (
        ["correlation.matrices=[{range_nm: 1.2, matrix: [[1]]}]"],
        r"matrices\.0\.matrix must be 14 rows of 14 values",
    ),
    (["correlation.repulsion.range_nm=0.7"], r"repulsion\.range_nm must be >= 0\.75 nm"),
    (["numerics.noise.range_nm=0.5"], r"numerics\.noise\.range_nm must be >= 0\.75 nm"),
    (
        ["membrane.side_nm=50", "membrane.cells=60"],
        r"membrane\.side_nm must be >= 60 nm, .*smaller than the interaction range, got 50",
    ),
    (
        ["correlation.same_leaflet.pairs.DPSM-CHOL=2"],
        r"smallest eigenvalue of M\(k\) must be >= 0\.1, it is -3\.27 at k = 0 nm",
    ),
    (["numerics.time_step_us=0.003"], r"snapshot_interval_us must be a whole multiple of .*0\.003"),
    (["numerics.protein_substep_us=0.02"], r"time_step_us must be a whole multiple of .* 0\.02"),
    (["proteins.free_transitions_per_us.RASa.RASx=1"], r"free transition must be .* got 'RASx'"),
    (["proteins.pairs.RAF-RAS={cutoff_nm: 3, core_length_nm: 3}"], r"pair RAF-RAS is given twice"),
    (["proteins.pairs.RAS-RAT={cutoff_nm: 3, core_length_nm: 3}"], r"names the kind 'RAT'"),
    (["proteins.complexes.zRASa_zRAFa.ligand_state=zRAF"], r"no protein state is called 'zRAF'"),
    (["proteins.initial_populations={RASa: 0.5}"], r"initial populations must sum to 1, got 0\.5"),
    (
        ["proteins.unbinding_per_us=null", "proteins.binding_per_us=null"],
        r"initial_populations must be given, .* more than one stationary state",
    ),
    (
        ["potentials.states.RASd.coupling=1"],
        r"must name protein states, .*got 'RASd'; did you mean",
    ),
    (["potentials.states.RASa=null"], r"must hold every protein state, it lacks one, got 'RASa'"),
    (["potentials.lipids.inner.DOPC={amplitude_kt: 1, range_nm: 1}"], r"must name inner lipids"),
    (["potentials.taper_from_nm=12"], r"taper_from_nm must be < potentials\.cutoff_nm = 11"),
    (["potentials.table=nowhere.h5"], r"no such file.*nowhere\.h5"),
    (["lipids.inner.1POPC={}"], r"a name must be of letters"),
    (["seed"], r"an override must read key\.path=value, got 'seed'"),
    (["seed.low=3"], r"reaches below seed, which is a single value"),
    (["seed=[1"], r"not valid YAML"),
]


@pytest.mark.parametrize(("overrides", "message"), REFUSALS)
def test_a_mistake_is_refused_in_one_clear_sentence(overrides, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        load_model("laptop", overrides)
    assert "laptop" in str(caught.value) or "override" in str(caught.value)


def test_a_mistake_in_a_file_names_the_file(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("preset: laptop\nproteins: {cuont: 3}\n")
    with pytest.raises(ConfigurationError, match=r"mine\.yaml: unknown key proteins\.cuont = 3"):
        load_model(mine)
    mine.write_text("preset: laptop\nseed: 1\nseed: 2\n")
    with pytest.raises(ConfigurationError, match=r"mine\.yaml: .*'seed' is given twice"):
        load_model(mine)
    mine.write_text("preset: labtop\n")
    with pytest.raises(ConfigurationError, match=r"'labtop' is unknown; .*mean 'laptop'\?"):
        load_model(mine)
    mine.write_text("- 1\n")
    with pytest.raises(ConfigurationError, match=r"must be a mapping of keys, got list"):
        load_model(mine)
    mine.write_bytes(b"\x89HDF\xff\xfe")
    with pytest.raises(ConfigurationError, match=r"mine\.yaml: not a text file"):
        load_model(mine)
    with pytest.raises(ConfigurationError, match=r"neither a file nor a preset; .*mean 'laptop'"):
        load_model("laptob")


def test_yaml_can_build_nothing_but_values(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("preset: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ConfigurationError, match="not valid YAML"):
        load_model(mine)


def test_an_asymmetric_matrix_is_refused_with_both_values():
    rows = np.zeros((14, 14))
    rows[2, 5] = 0.25
    entry = yaml.safe_dump([{"range_nm": 1.2, "matrix": rows.tolist()}], default_flow_style=True)
    with pytest.raises(ConfigurationError, match=r"\[2\]\[5\] = 0\.25 and \[5\]\[2\] = 0\.0"):
        load_model("laptop", [f"correlation.matrices={entry}"])


def test_couplings_of_one_range_are_one_convolution():
    assert len(load_model("published").correlation.couplings) == 1
    apart = load_model("published", ["correlation.across_leaflets.range_nm=1.5"])
    assert sorted(c.range_nm for c in apart.correlation.couplings) == [1.0, 1.5]
