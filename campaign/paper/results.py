"""What the stages of a story have left: their numbers, and what size they are of."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """The JSON of each stage, empty where there is none yet."""

    evaluation: Json = field(default_factory=dict)
    table1: Json = field(default_factory=dict)
    search: Json = field(default_factory=dict)
    encoder: Json = field(default_factory=dict)
    campaign: Json = field(default_factory=dict)
    metric: Json = field(default_factory=dict)
    drift: Json = field(default_factory=dict)
    space: Json = field(default_factory=dict)
    space_before: Json = field(default_factory=dict)
    coverage: Json = field(default_factory=dict)
    decorrelation: Json = field(default_factory=dict)
    decorrelation_before: Json = field(default_factory=dict)

    def value(self, *path: str | int) -> Any:
        """What stands at a path, such as ("metric", "criteria", "auc"); None where it does not."""
        first, *rest = path
        found: Any = getattr(self, str(first))
        for key in rest:
            try:
                found = found[key]
            except (KeyError, IndexError, TypeError):
                return None
        return found

    def number(self, *path: str | int) -> float | None:
        """The same, if it is a number."""
        found = self.value(*path)
        is_number = isinstance(found, int | float) and not isinstance(found, bool)
        return float(found) if is_number else None


_PLACES = {
    "evaluation": "evaluation/evaluation.json",
    "table1": "table1/table1.json",
    "search": "search/search.json",
    "encoder": "training/encoder/encoder.json",
    "campaign": "campaign/report/report.json",
    "space_before": "analyses/before/space.json",
    "decorrelation_before": "analyses/before/decorrelation.json",
    **{
        name: f"analyses/{name}.json"
        for name in ("metric", "drift", "space", "coverage", "decorrelation")
    },
}


def read_results(out: Path) -> Results:
    """Whatever is there by now."""
    found = {
        name: json.loads((out / place).read_text())
        for name, place in _PLACES.items()
        if (out / place).is_file()
    }
    return Results(**found)


def sizes_of(results: Results) -> list[list[str]]:
    """Rows of what, the paper's size, ours."""

    def told(value: float | None, unit: str = "") -> str:
        return "not there yet" if value is None else f"{value:,.5g}{unit}"

    models = results.value("search", "models")
    simulated = results.number("campaign", "simulated_us")
    split = results.value("encoder", "training", "patches") or {}
    return [
        ["patches before the campaign", "334,000",
         told(results.number("evaluation", "data", "patches_available"))],
        ["of these learned from", "90 % at random",
         f"{told(split.get('training'))}, whole histories"],
        ["epochs of the metric", "60 to 100",
         told(results.number("encoder", "training", "epochs"))],
        ["models searched (figure 4)", "109", str(len(models)) if models else "none"],
        ["patches of the campaign", "6,180,000", told(results.number("campaign", "patches"))],
        ["simulated time of the campaign", "18,700 µs (from its patches)", told(simulated, " µs")],
        ["selected for molecular dynamics", "about 0.05 % of them",
         told(results.number("campaign", "selected"))],
        ["patches judged of the campaign", "30,000", told(results.number("metric", "patches"))],
        ["histories after the campaign", "300", told(results.number("decorrelation", "histories"))],
        ["frames of each, 10 ns apart there", "not told",
         told(results.number("decorrelation", "frames"))],
    ]  # fmt: skip
