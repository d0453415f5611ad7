"""The rows of table 1 of Bhatia 2022, what the paper reports of each, and our invariant network."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The paper's values of a row."""

    dimension: int
    overlap_percent: float
    mare_star: float
    auc: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A metric of the table: a standard one, or one trained from a preset."""

    name: str
    label: str
    preset: str | None  # None for a standard metric
    paper: Published | None


def _row(name: str, label: str, preset: str | None, *paper: float) -> Row:
    dimension, overlap, mare_star, auc = paper
    return Row(
        name=name,
        label=label,
        preset=preset,
        paper=Published(
            dimension=int(dimension), overlap_percent=overlap, mare_star=mare_star, auc=auc
        ),
    )


ROWS: tuple[Row, ...] = (
    _row("l2-images", "ℓ2(x), images", None, 19_166, 99.99, 13.54, 0.34),
    _row("l2-means", "ℓ2(μ), mean conc.", None, 14, 0, 19.64, 0.32),
    _row("l2-profiles", "ℓ2(Υ), RDFs", None, 304, 0, 0, 0.36),
    _row("invariance", "L inv", "invariance", 1, 0.09, 551.08, 0.58),
    _row("radial", "L rad", "radial", 9, 0.06, 0.98, 0.30),
    _row("label", "L lab", "label", 9, 99.73, 117.26, 0.76),
    _row("label-radial", "L rad + L lab", "label-radial", 9, 99.99, 0.26, 0.68),
    _row("ours", "all three: the paper's metric", "ours", 9, 0.05, 2.6, 0.61),
    Row(name="invariant", label="invariant network", preset="invariant", paper=None),
)

ROW_NAMES = tuple(row.name for row in ROWS)
