"""What a configuration means, in numbers that a person can judge before starting it."""

import os
from collections.abc import Iterator

from campaign.configuration import CampaignSetup, configuration_hash, rules_of
from campaign.rules import boundary_of, picks_at
from continuum.validation import describe_model


def description_lines(setup: CampaignSetup) -> Iterator[str]:
    """Lines for people; every number follows from the configuration."""
    config, rules = setup.config, rules_of(setup)
    jobs = config.molecular_dynamics
    last = setup.last_snapshot
    model = setup.model
    patches = model.proteins.count + model.output.control_patches
    picks = sum(picks_at(rules, snapshot) for snapshot in range(last + 1))
    yield describe_model(model, config.continuum.ranks)
    yield (
        f"campaign: snapshots 0 to {last}, {last * model.output.snapshot_interval_us:g} µs,"
        f" up to {patches} patches each, {(last + 1) * patches:,} in all"
    )
    mix = ", ".join(f"{name} {share:g}" for name, share in jobs.mix.items())
    yield (
        f"selection: {picks:,} patches; molecular dynamics: {jobs.duration_us:g} µs each"
        f" ({mix}), {picks * jobs.duration_us:,.0f} µs in all, in {jobs.slots} slots"
    )
    yield _feedback(setup)
    cores = os.cpu_count() or 1
    wanted = config.continuum.ranks + jobs.slots
    if wanted > cores:
        yield (
            f"this machine has {cores} cores for {config.continuum.ranks} ranks and {jobs.slots}"
            " slots: they will share them"
        )
    yield f"configuration {configuration_hash(setup)}"


def _feedback(setup: CampaignSetup) -> str:
    feedback, rules = setup.config.feedback, rules_of(setup)
    if not feedback.enabled:
        return "feedback: none"
    first = boundary_of(rules, 1)
    if first > setup.last_snapshot:
        return f"feedback: none, the first version would be due at snapshot {first}"
    versions = 1 + (setup.last_snapshot - first) // feedback.every_snapshots
    return (
        f"feedback: {versions} versions, {feedback.pacing}, from snapshot {first} on every"
        f" {feedback.every_snapshots}, of jobs picked {feedback.lag_snapshots} snapshots before"
    )
