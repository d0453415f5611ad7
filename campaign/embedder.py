"""What embeds the patches of a campaign, a plain class of which `ray_shell.py` makes actors.

What an embedder, a pilot or the launcher of ranks knows is lost with its process and costs no more
than work done again: the journal has the truth. Each is a module of its own, for every process pays
for what its module imports.
"""

from pathlib import Path
from typing import Any

from campaign.embedding import Encoder, embed_snapshot
from campaign.encoder_store import run_encoder
from campaign.events import to_json
from campaign.process_identity import die_with_parent


class Embedder:
    """Embeds one snapshot at a time with the run's encoder."""

    def __init__(self, run: str, batch: int, device: str) -> None:
        die_with_parent()
        self._run, self._batch, self._device = Path(run), batch, device
        self._encoder: Encoder | None = None

    def embed(self, snapshot_index: int) -> dict[str, Any]:
        """The event of a snapshot, as JSON; or `failed` and why."""
        try:
            if self._encoder is None:
                self._encoder = run_encoder(self._run, self._device)
            event = embed_snapshot(self._run, snapshot_index, self._encoder, self._batch)
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            return {"failed": f"{type(error).__name__}: {error}"}
        return to_json(event)
