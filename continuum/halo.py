"""The door to MPI: halo rows, exact sums, broadcasts; and the same for a single process.

Everything a rank receives is either a copy of what another rank holds or an integer sum, so no
result depends on the number of ranks.
"""

import os
import sys
import traceback
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class World(Protocol):
    """What the continuum needs of its parallel environment."""

    rank: int
    size: int

    def fill_halo(self, field: Array, halo: int) -> None:
        """Fill the `halo` outer rows of field [..., halo + rows + halo, nx] from neighbours."""

    def sum(self, array: Array) -> Array:
        """Sum over ranks; exact where the array is of integers or only one rank is non-zero."""

    def sum_to_root(self, array: Array) -> Array | None:
        """The same sum, on rank 0 only (None elsewhere); `array` may be overwritten."""

    def broadcast(self, value: Any) -> Any:
        """A Python value of rank 0, on every rank."""

    def gather_to_root(self, value: Any) -> list[Any] | None:
        """One Python value per rank, in rank order, on rank 0 (None elsewhere)."""

    def send_rows(self, rows: Array) -> None:
        """Hand rows to rank 0, which takes them with receive_rows."""

    def receive_rows(self, rows: Array, source: int) -> None:
        """Receive into `rows` what rank `source` sent."""

    def barrier(self) -> None:
        """Wait for all ranks."""

    def abort(self, code: int) -> None:
        """End every rank at once."""


class SingleProcess:
    """The world of one process: its only neighbour is itself, across the periodic border."""

    rank = 0
    size = 1

    def fill_halo(self, field: Array, halo: int) -> None:
        rows = field.shape[-2] - 2 * halo
        if 0 < halo <= rows:
            field[..., :halo, :] = field[..., -2 * halo : -halo, :]
            field[..., -halo:, :] = field[..., halo : 2 * halo, :]
        elif halo:
            beyond = np.arange(halo)
            field[..., :halo, :] = field[..., halo + (beyond - halo) % rows, :]
            field[..., -halo:, :] = field[..., halo + beyond % rows, :]

    def sum(self, array: Array) -> Array:
        return array

    def sum_to_root(self, array: Array) -> Array | None:
        return array

    def broadcast(self, value: Any) -> Any:
        return value

    def gather_to_root(self, value: Any) -> list[Any] | None:
        return [value]

    def send_rows(self, rows: Array) -> None:
        raise RuntimeError("a single process has nobody to send rows to")

    def receive_rows(self, rows: Array, source: int) -> None:
        raise RuntimeError(f"a single process has no rank {source} to receive rows from")

    def barrier(self) -> None:
        pass

    def abort(self, code: int) -> None:
        sys.exit(code)


class MpiWorld:
    """Ranks of MPI.COMM_WORLD, arranged in a ring of slabs."""

    def __init__(self, communicator: Any) -> None:
        self._comm = communicator
        self.rank = int(communicator.Get_rank())
        self.size = int(communicator.Get_size())
        self._above = (self.rank + 1) % self.size
        self._below = (self.rank - 1) % self.size

    def fill_halo(self, field: Array, halo: int) -> None:
        if not halo:
            return
        if self.size == 1:
            SingleProcess().fill_halo(field, halo)
            return
        to_above = np.ascontiguousarray(field[..., -2 * halo : -halo, :])
        to_below = np.ascontiguousarray(field[..., halo : 2 * halo, :])
        from_below, from_above = np.empty_like(to_above), np.empty_like(to_below)
        self._comm.Sendrecv(to_above, self._above, 1, from_below, self._below, 1)
        self._comm.Sendrecv(to_below, self._below, 2, from_above, self._above, 2)
        field[..., :halo, :] = from_below
        field[..., -halo:, :] = from_above

    def sum(self, array: Array) -> Array:
        total = np.empty_like(array)
        self._comm.Allreduce(array, total)
        return total

    def sum_to_root(self, array: Array) -> Array | None:
        total = np.empty_like(array) if self.rank == 0 else None
        self._comm.Reduce(array, total, root=0)
        return total

    def broadcast(self, value: Any) -> Any:
        return self._comm.bcast(value, root=0)

    def gather_to_root(self, value: Any) -> list[Any] | None:
        gathered: list[Any] | None = self._comm.gather(value, root=0)
        return gathered

    def send_rows(self, rows: Array) -> None:
        self._comm.Send(np.ascontiguousarray(rows), 0, 3)

    def receive_rows(self, rows: Array, source: int) -> None:
        self._comm.Recv(rows, source, 3)

    def barrier(self) -> None:
        self._comm.Barrier()

    def abort(self, code: int) -> None:
        self._comm.Abort(code)


class WrongLauncher(RuntimeError):
    """The process was started by another MPI than the one mpi4py is linked with."""


def _launcher(environment: dict[str, str]) -> tuple[str, int] | None:
    """Name of the MPI that started this process and the number of ranks it promised."""
    if "OMPI_COMM_WORLD_SIZE" in environment:
        return "Open MPI", int(environment["OMPI_COMM_WORLD_SIZE"])
    if "PMI_SIZE" in environment:
        return "MPICH", int(environment["PMI_SIZE"])
    if "SLURM_NTASKS" in environment and "SLURM_PROCID" in environment:
        return "Slurm", int(environment["SLURM_NTASKS"])
    return None


def _linked_library() -> str:
    """Name of the MPI that mpi4py would load, found without initialising it."""
    import mpi4py

    # Left to itself, mpi4py finalises at exit only what it initialised.
    mpi4py.rc(initialize=False, finalize=True)
    from mpi4py import MPI

    version: str = MPI.Get_library_version()
    return "Open MPI" if "Open MPI" in version else "MPICH" if "MPICH" in version else version


def check_launcher(environment: dict[str, str], library: str) -> None:
    """Raise WrongLauncher when mpiexec and mpi4py belong to different MPIs."""
    launcher = _launcher(environment)
    if launcher is not None and launcher[0] in ("Open MPI", "MPICH") and launcher[0] != library:
        raise WrongLauncher(
            f"this process was started by {launcher[0]}'s mpiexec, but mpi4py is linked with"
            f" {library}: start it with the mpiexec of {library}, for instance"
            f" {os.path.join(os.path.dirname(sys.executable), 'mpiexec')}"
        )


def connect() -> World:
    """The world this process was started in: MPI ranks under mpiexec, else a single process.

    Raises WrongLauncher, before MPI is initialised, when another MPI's mpiexec started us, and
    after when the launcher promised more ranks than joined.
    """
    environment = dict(os.environ)
    launcher = _launcher(environment)
    if launcher is None:
        return SingleProcess()
    try:
        library = _linked_library()
    except ImportError as error:
        if launcher[1] == 1:
            return SingleProcess()
        raise WrongLauncher(
            f"{launcher[0]} started {launcher[1]} ranks, but mpi4py cannot be imported ({error}):"
            " pip install 'bilayer[mpi]'"
        ) from error
    check_launcher(environment, library)
    from mpi4py import MPI

    MPI.Init()
    if MPI.COMM_WORLD.Get_size() != launcher[1]:
        raise WrongLauncher(
            f"{launcher[0]} started {launcher[1]} ranks but {MPI.COMM_WORLD.Get_size()} joined"
            f" {library}: use the mpiexec that belongs to mpi4py's MPI"
        )
    _abort_all_ranks_on_error(MPI.COMM_WORLD)
    return MpiWorld(MPI.COMM_WORLD)


def _abort_all_ranks_on_error(communicator: Any) -> None:
    """An uncaught exception on one rank must not leave the others waiting for it."""

    def hook(kind: type[BaseException], value: BaseException, trace: Any) -> None:
        traceback.print_exception(kind, value, trace)
        sys.stderr.flush()
        communicator.Abort(1)

    sys.excepthook = hook
