"""A campaign's numbers for Prometheus, through Ray's own exporter: gauges named `campaign_*`.

They are functions of the state, so that a restarted coordinator goes on where it was.
"""

import time

from ray.util.metrics import Gauge

from campaign.events import Event
from campaign.state import CampaignState
from campaign.status import CampaignStatus, status_of

_EVERY_S = 2.0

GAUGES: dict[str, str] = {
    "campaign_time_us": "Simulated time of the last snapshot taken in, in microseconds",
    "campaign_snapshots": "Snapshots behind a gate",
    "campaign_patches": "Patches in a place",
    "campaign_jobs": "Molecular dynamics jobs in a state",
    "campaign_attempts_failed": "Failed attempts by class",
    "campaign_slots_cordoned": "Molecular dynamics slots out of use",
    "campaign_parameter_version": "Newest parameter version",
    "campaign_md_time_us": "Molecular dynamics simulated, in microseconds",
    "campaign_results_pending": "Results that no parameter version has used yet",
    "campaign_continuum_incarnation": "Incarnation of the ranks, 0 while none run",
    "campaign_coordinator_incarnation": "How often a coordinator has taken the campaign up",
}
LABELS = {
    "campaign_snapshots": "gate",
    "campaign_patches": "place",
    "campaign_jobs": "state",
    "campaign_attempts_failed": "failure",
}


class CampaignMetrics:
    """Sets the gauges from the state, at most every other second."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._told_s = -_EVERY_S
        self._gauges = {
            name: Gauge(name, text, ("run", LABELS[name]) if name in LABELS else ("run",))
            for name, text in GAUGES.items()
        }

    def watch(self, state: CampaignState, event: Event) -> None:
        """A watcher of the coordinator's."""
        now_s = time.monotonic()
        if now_s - self._told_s >= _EVERY_S or state.finished is not None:
            self._told_s = now_s
            self.tell(status_of(state))

    def tell(self, status: CampaignStatus) -> None:
        """Set every gauge."""
        for name, value in values_of(status).items():
            gauge, label = self._gauges[name], LABELS.get(name)
            for part, number in value.items():
                tags = {"run": self._run} | ({label: part} if label else {})
                gauge.set(number, tags=tags)


def values_of(status: CampaignStatus) -> dict[str, dict[str, float]]:
    """Each metric's numbers, by the value of its label ("" where it has none)."""
    return {
        "campaign_time_us": {"": status.time_us},
        "campaign_snapshots": {
            "ingested": status.ingested,
            "embedded": status.embedded,
            "selected": status.selected,
            "settled": status.settled,
            "permitted": status.permitted + 1,
        },
        "campaign_patches": {name: float(count) for name, count in status.patches.items()},
        "campaign_jobs": {name: float(count) for name, count in status.jobs.items()},
        "campaign_attempts_failed": {n: float(count) for n, count in status.failures.items()},
        "campaign_slots_cordoned": {"": float(len(status.cordoned))},
        "campaign_parameter_version": {"": float(status.version)},
        "campaign_md_time_us": {"": status.md_time_us},
        "campaign_results_pending": {"": float(status.pending_feedback)},
        "campaign_continuum_incarnation": {
            "": float(status.continuum if status.continuum_runs else 0)
        },
        "campaign_coordinator_incarnation": {"": float(status.incarnation)},
    }
