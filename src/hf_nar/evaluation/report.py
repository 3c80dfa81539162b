"""Quality and comparisons as aligned lines of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hf_nar.evaluation.metrics import COLUMNS
from hf_nar.evaluation.traces import escape_controls

SMALLEST_P = 0.001
LIKELIHOODS = {"log_likelihood": "log p(word)", "elbo": "ELBO", "marginal": "log p(y|x)"}


class QualityTable:
    """A table of which each line can be printed as soon as it is known.

    Args:
        labels: Of all rows to come, for the width of their column.
        metrics: Names of the metrics, for their columns.
        likelihoods: Names of the likelihoods that rows have, for their columns.
    """

    def __init__(
        self, labels: Sequence[str], metrics: Sequence[str], likelihoods: Sequence[str] = ()
    ) -> None:
        self.metrics = metrics
        self.likelihoods = likelihoods
        self.width = max(len(escape_controls(label)) for label in [*labels, "setting"])
        self.headers = [
            *(COLUMNS[name].rjust(6) for name in metrics),
            "length ratio",
            "exact length",
            "repeats",
            "mean iterations",
            *(LIKELIHOODS[name].rjust(7) for name in likelihoods),
            "seconds",
        ]

    def header(self) -> str:
        """Return the names of the columns."""
        return "  ".join(["setting".ljust(self.width), *self.headers])

    def row(self, row: Mapping[str, Any]) -> str:
        """Return the line of a row of a results file."""
        cells = [_metric(name, row[name.replace("-", "_")]) for name in self.metrics]
        cells += [
            f"{row['length_ratio']:.3f}",
            f"{row['exact_length_share']:.1%}",
            f"{row['repetition_share']:.2%}",
            _or_dash(row["mean_iterations"], ".2f"),
            *(_or_dash(row.get(name), ".3f") for name in self.likelihoods),
            _or_dash(row["seconds"], ".1f"),
        ]
        aligned = [cell.rjust(len(head)) for cell, head in zip(cells, self.headers, strict=True)]
        return "  ".join([escape_controls(row["label"]).ljust(self.width), *aligned])

    def signatures(self, row: Mapping[str, Any]) -> list[str]:
        """Return a line for each metric that says how it was computed."""
        names = {name: name.replace("-", "_") for name in self.metrics}
        return [f"{COLUMNS[name]}: {row[f'{key}_signature']}" for name, key in names.items()]


def comparison_lines(against: Sequence[Mapping[str, Any]], samples: int, seed: int) -> list[str]:
    """Return a table of comparisons with other systems.

    Args:
        against: Entries of a results file.
        samples: Of the bootstrap.
        seed: Of the bootstrap.
    """
    cells = [["setting", "metric", "score (95%)", "against", "score (95%)", "difference", "p"]]
    cells += [
        [
            escape_controls(entry["label"]),
            COLUMNS[entry["metric"]],
            _interval(entry["score"], entry["interval"]),
            escape_controls(entry["file"]),
            _interval(entry["other_score"], entry["other_interval"]),
            f"{entry['difference']:+.2f}",
            f"< {SMALLEST_P}" if entry["p_value"] < SMALLEST_P else f"{entry['p_value']:.3f}",
        ]
        for entry in against
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    title = f"Paired bootstrap resampling, {samples} samples, seed {seed}:"
    return [title, *("  ".join(map(str.ljust, line, widths)).rstrip() for line in cells)]


def _metric(name: str, value: float) -> str:
    return f"{value:.4f}" if name == "comet" else f"{value:.2f}"


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _interval(score: float, interval: Sequence[float]) -> str:
    low, high = interval
    return f"{score:.2f} ({low:.2f} to {high:.2f})"
