import io

from rich.console import Console

from campaign.events import BatchIngested, CampaignOpened, JobFailed, Selected
from campaign.live_view import live_view
from campaign.rules import Rules
from campaign.state import apply, initial_state


def test_the_view_shows_membrane_slots_and_what_went_wrong(tmp_path):
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=110)
    state = initial_state(Rules(last_snapshot=4, launch_continuum=False))
    events = [
        CampaignOpened(config_hash="c", code_version="v", encoder_version="e"),
        BatchIngested(
            snapshot_index=0,
            incarnation=1,
            time_us=0.5,
            count=7,
            controls=1,
            crc32=0,
            parameter_version=0,
        ),
    ]
    with live_view(tmp_path, slots=3, end_us=2.0, console=console) as watch:
        for event in events:
            watch(apply(state, event), event)
        state.finished = "complete"
        watch(state, Selected(snapshot_index=0, patches=(), discarded=0, candidates=0))
    shown = output.getvalue()
    assert "0.5 of 2 µs" in shown
    assert "0 of 3 in use" in shown
    assert "7" in shown
    assert JobFailed.__name__ not in shown
