"""Runs the campaign's benchmarks, holds them against their bars, prints a table and JSON.

`--quick` is a tenth of everything or less, and too short for the bar of our own CPU; without it, a
journal of 24,000 jobs and 6 million patches, and the campaign of `make campaign`.
"""

import tempfile
from pathlib import Path

from benchmarks.bridge import PATCHES, through_ray, through_the_folder
from benchmarks.campaign_share import measure_share
from benchmarks.coordinator import measure_decisions, measure_restart
from benchmarks.pilots import measure_pilots
from benchmarks.report import Bar, Result, arguments_of, conclude, measure, opened

SLOTS = 6_000  # of the coordinator alone
# Jobs, and slots of the pilot: a slot waits for the disk and for answers most of the time, and a
# quick run has no time to start many workers.
PILOTS = {True: (1_200, 8), False: (10_000, 16)}
# (snapshots, jobs) of the journal: a tenth of the published campaign, and the whole of it
JOURNALS = {True: (1_818, 2_400), False: (18_182, 24_000)}


class Benchmark:
    """The sections of one benchmark."""

    def __init__(self, *, quick: bool, folder: Path) -> None:
        self.quick, self.folder = quick, folder
        self.journal = JOURNALS[quick]

    def bridge_folder(self) -> Result:
        """Through the spool."""
        return through_the_folder(self._room("folder"), 7 if self.quick else 41)

    def ray(self) -> Result:
        """Through Ray, and mock jobs through a pilot, in one cluster."""
        from campaign.ray_cluster import own_cluster

        run = self._room("bridge")
        with own_cluster(run, {"CPU": 2}, dashboard=False) as cluster:
            bridge = through_ray(run, 7 if self.quick else 41, cluster.address)
            return {
                "bridge": bridge,
                "pilots": measure_pilots(self._room("pilots"), *PILOTS[self.quick]),
            }

    def coordinator(self) -> Result:
        """Decisions."""
        return measure_decisions(self._room("journal"), *self.journal, slots=SLOTS)

    def restart(self) -> Result:
        """From the journal that `coordinator` wrote, with a real selector's state."""
        folder = self.folder / "journal"
        if not folder.exists():
            self.coordinator()
        return measure_restart(folder, *self.journal, quick=self.quick)

    def campaign(self) -> Result:
        """Our own CPU and the occupancy of MD slots in a real campaign."""
        return measure_share(self.folder / "campaign", CAMPAIGN[self.quick])

    def larger_campaign(self) -> Result:
        """The same in the first part of one whose membrane has six times the area."""
        return measure_share(self.folder / "larger", LARGER_CAMPAIGN[self.quick])

    def _room(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir()
        return folder


# What is run in full and in a quick benchmark, which has as many jobs a snapshot.
CAMPAIGN = {False: ("laptop",), True: ("laptop", "--snapshots", "2")}
LARGER_CAMPAIGN = {
    False: ("recovery", "--snapshots", "30"),
    True: ("recovery", "--snapshots", "2"),
}

SECTIONS = ("bridge_folder", "ray", "coordinator", "restart", "campaign", "larger_campaign")
BARS = (
    Bar("bridge_folder", "patches/s to a durable file", "patches_per_s", 1_000),
    Bar("ray", "patches/s through Ray to a durable ack", "bridge.patches_per_s", 1_000),
    Bar("ray", "mock jobs/s started through a pilot", "pilots.jobs_started_per_s", 500),
    Bar("coordinator", "coordinator: decisions/s", "decisions_per_s", 5_000),
    Bar("restart", "coordinator: restart, s", "wall_s", 10, at_least=False),
    Bar("campaign", "our CPU / the work's CPU", "own_cpu_share", 0.05, at_least=False),
    Bar("campaign", "occupancy of MD slots", "occupancy", 0.98),
    Bar("larger_campaign", "the same, 300 nm", "own_cpu_share", 0.05, at_least=False),
)


def print_details(result: Result) -> None:
    """What the numbers are of."""
    bridges = {
        "bridge_folder": result.get("bridge_folder"),
        "bridge through Ray": result.get("ray", {}).get("bridge"),
    }
    for name, found in bridges.items():
        if found is not None:
            print(
                f"{name}: {found['median_ms_per_batch']:.0f} ms (median),"
                f" {found['slowest_ms_per_batch']:.0f} ms (slowest) for {PATCHES} patches,"
                f" {found['megabytes_per_s']:.0f} MB/s"
            )
    if "restart" in result:
        found = result["restart"]
        print(
            f"restart: {found['patches']:,} patches, {found['jobs']:,} jobs, {found['records']:,}"
            f" records in {found['open_s'] + found['fold_s']:.2f} s, then {found['candidates']:,}"
            f" candidates and {found['snapshots_selected_again']} snapshots again in"
            f" {found['select_again_s']:.2f} s, {found['peak_resident_mb']:.0f} MB"
        )
    for section in ("campaign", "larger_campaign"):
        if (found := result.get(section)) is None:
            continue
        print(f"campaign `{found['campaign']}`, CPU seconds while it worked, and in all:")
        for part, cpu_s in found["cpu_s_with_start_and_end"].items():
            print(f"  {part:12} {found['cpu_s'].get(part, 0.0):8.2f} {cpu_s:8.2f}")


def main() -> None:
    """The command line."""
    arguments = arguments_of(__doc__, "a tenth of everything or less", SECTIONS).parse_args()
    result = opened(arguments.quick)
    chosen = arguments.only or SECTIONS
    with tempfile.TemporaryDirectory() as name:
        benchmark = Benchmark(quick=arguments.quick, folder=Path(name))
        measure(benchmark, [section for section in SECTIONS if section in chosen], result)
    print_details(result)
    conclude(result, BARS, as_json=arguments.json)
