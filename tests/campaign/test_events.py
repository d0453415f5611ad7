"""Events survive a round trip through JSON, and nothing else passes for one."""

import json
import math
from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campaign.events import (
    KINDS,
    CampaignOpened,
    EventError,
    Pick,
    Selected,
    from_json,
    job_of,
    patch_of,
    slot_of,
    snapshot_of,
    to_json,
)

PICKS = st.builds(
    Pick, st.integers(0, 2**53), st.text(max_size=5), st.floats(allow_nan=False, min_value=0)
)


def values_of(kind: type) -> st.SearchStrategy:
    """Any event of a kind; other types are taken from its annotations."""
    given_ = {f.name: st.floats(allow_nan=False) for f in fields(kind) if f.type is float}
    if kind is Selected:
        given_["patches"] = st.lists(PICKS).map(tuple)
    return st.builds(kind, **given_)


@settings(deadline=None, max_examples=200)
@given(st.one_of([values_of(kind) for kind in KINDS.values()]))
def test_an_event_survives_json(event):
    assert from_json(json.loads(json.dumps(to_json(event)))) == event


def test_json_of_an_infinite_importance_is_json():
    event = Selected(snapshot_index=0, patches=(Pick(1, "q", math.inf),), discarded=0, candidates=0)
    text = json.dumps(to_json(event), allow_nan=False)
    assert from_json(json.loads(text)) == event


OPENED = {"kind": "CampaignOpened", "config_hash": "", "code_version": "", "encoder_version": ""}


@pytest.mark.parametrize(
    "tree",
    [
        {},
        {"kind": "Exploded"},
        {"kind": ["CampaignOpened"]},
        {"kind": "CampaignOpened"},
        {**OPENED, "more": 1},
        {"kind": "Selected", "snapshot_index": 0, "patches": 3, "discarded": 0, "candidates": 0},
        {
            "kind": "Selected",
            "snapshot_index": 0,
            "patches": [[1]],
            "discarded": 0,
            "candidates": 0,
        },
    ],
)
def test_what_is_no_event_is_refused(tree):
    with pytest.raises(EventError):
        from_json(tree)


def test_the_envelope_is_no_part_of_an_event():
    assert from_json({**OPENED, "t": 3.0}) == CampaignOpened(
        config_hash="", code_version="", encoder_version=""
    )


@given(st.integers(0, 2**40), st.integers(0, 2**20 - 1))
def test_a_job_names_its_patch(snapshot, slot):
    patch = snapshot << 20 | slot
    assert patch_of(job_of(patch)) == patch
    assert (snapshot_of(patch), slot_of(patch)) == (snapshot, slot)


@pytest.mark.parametrize("name", ["", "12", "g" * 16])
def test_what_is_no_job_is_refused(name):
    with pytest.raises(ValueError, match=r"hexadecimal|invalid literal"):
        patch_of(name)
