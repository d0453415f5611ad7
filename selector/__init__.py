"""Farthest-point selection of candidates, exact and streaming (DynIm)."""

from selector.binned import Axis, BinnedSampler
from selector.candidate_queues import CandidateQueues, Pick
from selector.checks import VectorError
from selector.coverage import Coverage, coverage
from selector.farthest_point import FarthestPointSampler
from selector.history import HistoryError
from selector.identifiers import IdentifierError
from selector.queue_settings import QueuesSettings, read_queues_settings
from selector.random_choice import RandomSampler
from selector.recorded import RecordedSampler, ReplayError, replay
from selector.snapshot import SnapshotError

__all__ = [
    "Axis",
    "BinnedSampler",
    "CandidateQueues",
    "Coverage",
    "FarthestPointSampler",
    "HistoryError",
    "IdentifierError",
    "Pick",
    "QueuesSettings",
    "RandomSampler",
    "RecordedSampler",
    "ReplayError",
    "SnapshotError",
    "VectorError",
    "coverage",
    "read_queues_settings",
    "replay",
]
