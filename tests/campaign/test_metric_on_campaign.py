"""`analyse metric` reads a draw of patches and judges them as `ml` judges a whole set."""

import json

import numpy as np
import pytest

from campaign.analysis.embedding import SHIPPED, patch_files
from campaign.analysis.judged_patches import draw_patches, judged_patches, with_densities
from campaign.analysis.metric import relation_to_near_means
from campaign.analysis.pair_sums import PairSums
from campaign.analysis.workers import Workers
from ml.encoder import load_encoder
from ml.metric.checks import relation
from ml.metric.criteria import embed, judge, profiles_of
from ml.metric.evaluation_report import trained_factor
from ml.patch_data import Standardisation, open_patches
from tests.campaign.analysis_laboratory import call, write_run

ONE = Workers(processes=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("metric") / "run", range(9))


def test_every_patch_is_drawn_as_often_as_any_other(run):
    files = patch_files(run)
    drawn = [draw_patches(files, 20, seed) for seed in range(200)]
    counts = np.zeros((9, 9))
    for draw in drawn:
        assert sum(len(rows) for _, rows in draw) == 20
        for path, rows in draw:
            counts[int(path.stem), rows] += 1
    expected = 200 * 20 / 81
    assert abs(counts - expected).max() < 5 * np.sqrt(expected)
    assert draw_patches(files, 10**6, 0) == [(path, list(range(9))) for path in files]


def test_all_patches_drawn_give_what_the_whole_set_gives(run):
    judged = judged_patches(draw_patches(patch_files(run), 81, 0), SHIPPED, ONE)
    encoder = load_encoder()
    patches = open_patches([run])
    index = np.arange(len(patches))
    moments = encoder.info.standardisation
    standard = Standardisation(
        mean=np.array(moments.mean, np.float32), std=np.array(moments.std, np.float32)
    )
    factor = trained_factor(encoder)
    ours = judge(judged.embedding, judged.patches.kind, judged.profiles, factor=factor)
    theirs = judge(
        embed(encoder.encode, patches, index),
        patches.kind,
        profiles_of(patches, index, standard),
        factor=factor,
    )
    assert ours.auc == pytest.approx(theirs.auc, rel=1e-3)
    assert ours.mare == pytest.approx(theirs.mare, rel=5e-3)
    assert ours.overlap_percent == pytest.approx(theirs.overlap_percent, abs=0.1)
    np.testing.assert_array_equal(judged.patches.patch_id, patches.patch_id)
    picked = judged.patches.subset(np.array([40, 3]))
    again = with_densities(run, picked).density
    np.testing.assert_allclose(again, patches.density[[40, 3]], rtol=1e-3)


def test_sums_over_pairs_are_those_of_listed_pairs():
    generator = np.random.default_rng(3)
    vectors = generator.standard_normal((70, 4)).astype(np.float32)
    means = generator.random((70, 3)).astype(np.float32)
    i, j = np.triu_indices(70, 1)
    dz = np.linalg.norm(vectors[i].astype(float) - vectors[j], axis=1)
    dmu = np.linalg.norm(means[i].astype(float) - means[j], axis=1)
    found = relation_to_near_means(vectors, means, limit=0.5)
    near = dmu <= 0.5
    expected = relation(dmu[near], dz[near], np.linspace(0, 0.5, 61))
    assert found.all_pairs == expected.all_pairs == near.sum()
    assert found.pearson_pairs == pytest.approx(expected.pearson_pairs, rel=1e-4)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-4)
    np.testing.assert_allclose(found.std, expected.std, rtol=1e-3, atol=1e-5)


def test_pairs_of_a_snapshot_are_those_of_a_double_loop_with_minimum_image():
    generator = np.random.default_rng(4)
    centre, z = generator.uniform(0, 100, (25, 2)), generator.random((25, 9), np.float32)
    dx, dz = [], []
    for i in range(25):
        for j in range(i + 1, 25):
            images = [
                np.linalg.norm(centre[i] - centre[j] + 100.0 * np.array(shift))
                for shift in ((a, b) for a in (-1, 0, 1) for b in (-1, 0, 1))
            ]
            dx.append(min(images))
            dz.append(np.linalg.norm(z[i].astype(float) - z[j]))
    sums = PairSums(0.0, 60.0, 12)
    sums.add_snapshot(centre, z, 100.0)
    expected = relation(np.array(dx), np.array(dz), np.linspace(0, 60, 13))
    found = sums.relation()
    assert sums.seen == 300
    np.testing.assert_array_equal(found.pairs, expected.pairs)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-6)
    assert found.pearson_pairs == pytest.approx(expected.pearson_pairs, rel=1e-9)


def test_the_command_writes_criteria_beside_the_papers_and_four_figures(run):
    done = call("metric", run, "--first-us", 0, "--workers", 1, "--patches", 60)
    assert done.exit_code == 0, done.output
    found = json.loads((run / "report" / "metric.json").read_text())
    assert found["patches"] == 60
    assert found["paper"] == {"overlap_percent": 0.01, "mare": 0.03, "auc": 0.59}
    assert found["criteria"]["pairs"] == 60 * 59 // 2
    near = found["dz_dmu_near"]
    assert near["share_of_pairs"] == near["pairs"] / found["dz_dmu"]["pairs"]
    names = {path.name for path in (run / "report").glob("metric*.png")}
    figures = {f"metric_figure_{name}.png" for name in ("5", "6b", "11")}
    assert names == {"metric.png"} | figures
