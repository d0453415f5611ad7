"""Which node takes how many of the CPUs that a campaign needs: arithmetic without a cluster."""

from collections.abc import Mapping


def spread(amount: int, free: Mapping[str, float]) -> dict[str, int]:
    """Place `amount` CPUs on nodes, the one with most free ones first; ties go by name.

    Raises ValueError where there is not room for all of them.
    """
    placed: dict[str, int] = {}
    left = amount
    for node in sorted(free, key=lambda node: (-int(free[node]), node)):
        taken = min(left, int(free[node]))
        if taken:
            placed[node] = taken
            left -= taken
    if left:
        there = ", ".join(f"{int(cpus)} on {node}" for node, cpus in sorted(free.items()))
        raise ValueError(
            f"{amount} CPUs are needed and {amount - left} are free ({there or 'none'})"
        )
    return placed
