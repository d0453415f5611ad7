"""Selection in a campaign: a function of embeddings in order, before and after a restart."""

import shutil

import numpy as np
import pytest

from campaign.embedding_files import Embeddings
from campaign.events import Pick, snapshot_of
from campaign.selection import (
    PatchSelection,
    SelectionDivergence,
    SelectionSettings,
    recover,
    replay,
    saved_states,
)
from selector import FarthestPointSampler, QueuesSettings

QUEUES = QueuesSettings.model_validate(
    {
        "queues": {"free": {"share": 0.25}, "bound": {"share": 0.75}},
        "capacity": 20,
        "k": 3,
        "warm_up": 2,
    }
)
SETTINGS = SelectionSettings(
    queues=QUEUES, queue_of_kind=("free", "bound", "bound", "bound"), seed=5, save_every=4
)
PER_SNAPSHOT = 9


def embeddings(snapshot, count=PER_SNAPSHOT, lost=()):
    rng = np.random.default_rng(snapshot)
    slots = np.array([slot for slot in range(count) if slot not in lost], np.uint64)
    return Embeddings(
        patch_id=np.uint64(snapshot << 20) + slots,
        kind=rng.integers(0, 4, len(slots)).astype(np.uint8),
        vector=rng.normal(size=(len(slots), 4)).astype(np.float32),
        quarantined=np.array(lost, np.uint32),
        snapshot_index=snapshot,
        encoder_version="e",
    )


def course(selection, snapshots, picks=2):
    return [selection.advance(embeddings(s), picks) for s in snapshots]


def test_every_patch_offered_is_a_candidate_selected_or_discarded():
    selection = PatchSelection(SETTINGS)
    offered = picked = discarded = 0
    for outcome in course(selection, range(12)):
        offered += PER_SNAPSHOT
        picked += len(outcome.patches)
        discarded += outcome.discarded
        assert outcome.candidates == offered - picked - discarded
    assert discarded > 0
    assert picked == 24


def test_no_patch_is_picked_twice_or_before_it_exists():
    outcomes = course(PatchSelection(SETTINGS), range(12))
    ids = [pick.patch_id for outcome in outcomes for pick in outcome.patches]
    assert len(set(ids)) == len(ids)
    for snapshot, outcome in enumerate(outcomes):
        assert all(snapshot_of(pick.patch_id) <= snapshot for pick in outcome.patches)


def test_queues_take_the_kinds_they_are_given_and_keep_their_shares():
    kinds = {
        int(i): int(k)
        for s in range(12)
        for i, k in zip(embeddings(s).patch_id, embeddings(s).kind, strict=True)
    }
    outcomes = course(PatchSelection(SETTINGS), range(12))
    picks = [pick for outcome in outcomes for pick in outcome.patches]
    assert all((kinds[pick.patch_id] == 0) == (pick.queue == "free") for pick in picks)
    assert sum(pick.queue == "free" for pick in picks) == len(picks) // 4


def test_a_single_queue_selects_as_the_sampler_does():
    one = QueuesSettings.model_validate({"queues": {"all": {"share": 1.0}}, "warm_up": 3})
    selection = PatchSelection(SelectionSettings(queues=one, queue_of_kind=("all",) * 4, seed=5))
    sampler = FarthestPointSampler(4, warm_up=3, seed=5)
    for snapshot in range(6):
        batch = embeddings(snapshot)
        sampler.add(batch.patch_id, batch.vector)
        expected = list(zip(sampler.select(2), sampler.last_importances.tolist(), strict=True))
        outcome = selection.advance(batch, 2)
        assert [(pick.patch_id, pick.importance) for pick in outcome.patches] == expected


@pytest.mark.parametrize("keep", ["all", "none", "damaged"])
def test_a_restart_goes_on_as_if_nothing_had_happened(tmp_path, keep):
    undisturbed = PatchSelection(SETTINGS)
    outcomes = []
    for snapshot in range(11):
        outcomes += course(undisturbed, [snapshot])
        if snapshot % 4 == 3:
            undisturbed.save(tmp_path)
    assert [path.name for path in saved_states(tmp_path)] == ["0000000004", "0000000008"]
    if keep == "none":
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
    if keep == "damaged":
        path = saved_states(tmp_path)[-1] / "bound.npz"
        path.write_bytes(path.read_bytes()[:-40])
    read = []

    def reading(snapshot):
        read.append(snapshot)
        return embeddings(snapshot)

    restored = PatchSelection(SETTINGS)
    recover(restored, tmp_path, 11, reading, lambda s: outcomes[s].patches)
    assert read == list(range({"all": 8, "none": 0, "damaged": 4}[keep], 11))
    assert restored.weights() == undisturbed.weights()
    assert course(restored, range(11, 20)) == course(undisturbed, range(11, 20))


def test_states_of_the_future_are_not_taken_up(tmp_path):
    selection = PatchSelection(SETTINGS)
    outcomes = course(selection, range(4))
    selection.save(tmp_path)
    restored = PatchSelection(SETTINGS)
    recover(restored, tmp_path, 2, embeddings, lambda s: outcomes[s].patches)
    assert restored.snapshots == 2


def test_a_journal_that_the_selector_contradicts_is_an_error():
    outcomes = course(PatchSelection(SETTINGS), range(3))
    first, second = outcomes[1].patches
    wrong = {0: outcomes[0].patches, 1: (second, first), 2: outcomes[2].patches}
    with pytest.raises(SelectionDivergence, match="after snapshot 1"):
        replay(PatchSelection(SETTINGS), range(3), embeddings, wrong.__getitem__)
    nudged = Pick(first.patch_id, first.queue, np.nextafter(first.importance, 9.0))
    wrong[1] = (nudged, second)
    with pytest.raises(SelectionDivergence):
        replay(PatchSelection(SETTINGS), range(3), embeddings, wrong.__getitem__)


def test_snapshots_come_in_order():
    selection = PatchSelection(SETTINGS)
    with pytest.raises(ValueError, match="snapshot 0 is next"):
        selection.advance(embeddings(1), 1)


def test_nothing_is_picked_where_there_is_nothing():
    selection = PatchSelection(SETTINGS)
    outcome = selection.advance(embeddings(0, count=0), 3)
    assert (outcome.patches, outcome.candidates) == ((), 0)
    assert len(selection.advance(embeddings(1, count=2), 3).patches) == 2
    assert selection.weights().keys() == {f"{(1 << 20) + slot:016x}" for slot in range(2)}


def test_weights_count_each_patch_once():
    selection = PatchSelection(SETTINGS)
    course(selection, range(12))
    assert sum(selection.weights().values()) == 12 * PER_SNAPSHOT
