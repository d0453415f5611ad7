"""`index.html` of a story: our numbers beside the paper's, all figures, sizes, and what was run."""

from collections.abc import Sequence
from pathlib import Path

from campaign.html_page import Picture, Section, html_page
from campaign.paper.comparisons import Comparison, comparisons, table1_rows
from campaign.paper.configuration import resolved_yaml
from campaign.paper.results import Results, read_results, sizes_of
from campaign.paper.stages import Place, Stage, seconds_of
from continuum.atomic_file import write_atomically

_FIGURES: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Figure 3: the three criteria, before the campaign and in it",
        (
            ("evaluation/figure_3.png", "Before the campaign, validation patches."),
            ("analyses/metric.png", "Patches of the campaign."),
        ),
    ),
    ("Figure 4: the models searched", (("search/figure4.png", "Every model is a line."),)),
    (
        "Figure 5: what the metric calls similar",
        (("analyses/metric_figure_5.png", "Patches of the campaign, one lipid a column."),),
    ),
    (
        "Figure 6: distances and mean concentrations",
        (
            ("evaluation/figure_6.png", "a, before the campaign."),
            ("analyses/metric_figure_6b.png", "b, in the campaign."),
        ),
    ),
    (
        "Figure 7: distances in space and time",
        (
            ("analyses/before/space.png", "a, within snapshots before the campaign."),
            ("analyses/space.png", "a, within snapshots of the campaign."),
            (
                "analyses/decorrelation.png",
                "b and c, within histories after the campaign; their mean concentrations.",
            ),
            (
                "analyses/before/decorrelation.png",
                "The same under the first potentials, which the metric has learned from.",
            ),
        ),
    ),
    (
        "Figure 11: neighbourhoods",
        (
            ("evaluation/figure_11.png", "Before the campaign."),
            ("analyses/metric_figure_11.png", "In the campaign."),
        ),
    ),
    (
        "Figure 12: how the campaign's patches drift",
        (("analyses/drift.png", "Before the campaign against periods of it."),),
    ),
    (
        "What selection and feedback did",
        (
            ("analyses/coverage.png", "Patches selected against as many chosen at random."),
            ("analyses/feedback.png", "Potentials by version against the hidden truth."),
        ),
    ),
)


_CRITERIA = {"overlap_percent": "overlap", "mare_star": "MARE*", "auc": "AUC"}
_SIZES = (
    "The paper's membrane is one square micrometre with 300 RAS under 3,600 ranks; ours is as "
    "configured below. Molecular dynamics is a mock whose truth is hidden from the membrane."
)


def write_page(place: Place, stages: Sequence[Stage]) -> Path:
    """Write the page from whatever is there; its path."""
    results = read_results(place.out)
    found = comparisons(results)
    sections = [
        Section(
            "Numbers of the paper and ours",
            "Bhatia et al., Mach. Learn.: Sci. Technol. 3, 035010 (2022). A number agrees within "
            "the tolerance that its stage can be expected to reach; where ours is better than the "
            "paper's, it is as good.",
            header=["number", "where", "paper", "ours", ""],
            rows=[each.row() for each in found],
        ),
        _table1(place, results),
        Section("Sizes", _SIZES, header=["", "paper", "ours"],
                rows=sizes_of(results)),
        *_figures(place.out),
        _stages(place, stages),
    ]  # fmt: skip
    page = html_page(
        "A biology-informed similarity metric, done again",
        place.config.description,
        _tiles(found, place, stages),
        sections,
    )
    write_atomically(place.out / "index.html", page)
    return place.out / "index.html"


def _tiles(
    found: Sequence[Comparison], place: Place, stages: Sequence[Stage]
) -> list[tuple[str, str]]:
    there = [each for each in found if each.ours is not None]
    spent = [seconds for stage in stages if (seconds := seconds_of(place, stage)) is not None]
    return [
        (f"{sum(bool(each.agrees) for each in there)} of {len(there)}", "numbers agree"),
        (f"{len(spent)} of {len(stages)}", "stages done"),
        (f"{sum(spent) / 60:.0f} min", "spent on them"),
    ]


def _table1(place: Place, results: Results) -> Section:
    rows = table1_rows(results)
    if not rows:
        return Section("Table 1", "Left out: it is not there yet.")
    ranking = ", ".join(
        f"{_CRITERIA[name]} {value:.2f}"
        for name, value in results.value("table1", "ranking").items()
        if value is not None
    )
    judged = results.number("table1", "data", "judged_patches") or 0
    text = (
        f"Judged on {judged:,.0f} validation patches; ± is the standard deviation over seeds. "
        f"Rank correlation of the paper's rows with ours: {ranking or 'too few rows'}. Values "
        "differ with the membrane's parameters, which are not public, and with how many patches "
        "and epochs the metrics had; what can be compared is which row wins which criterion."
    )
    header = ["metric", "d", "overlap %", "paper", "MARE*", "paper", "AUC", "paper"]
    picture = _picture(place.out / "table1" / "table1.png", "Each criterion of each row.")
    return Section("Table 1", text, pictures=picture, header=header, rows=rows)


def _figures(out: Path) -> list[Section]:
    sections = []
    for title, pictures in _FIGURES:
        shown = [picture for name, caption in pictures for picture in _picture(out / name, caption)]
        sections.append(Section(title, "" if shown else "Left out: it is not there.", shown))
    return sections


def _picture(path: Path, caption: str) -> list[Picture]:
    return [Picture(path.stem, caption, path.read_bytes())] if path.is_file() else []


def _stages(place: Place, stages: Sequence[Stage]) -> Section:
    rows = []
    for stage in stages:
        seconds = seconds_of(place, stage)
        rows.append([stage.what, "" if seconds is None else f"{seconds:,.0f} s"])
    return Section(
        "What was run",
        "Wall time of each stage, of the last run where it was resumed.",
        header=["stage", "time"],
        rows=rows,
        listing=resolved_yaml(place.config),
    )
