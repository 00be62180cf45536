"""Results as SVG, for the documentation; knows nothing of how they were measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .figures import Results
from .subjects import PROJECT
from .work import Work

#: Text stays text, so that a file is small and can be searched; nothing in it depends on when it was drawn.
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "trio_ws",
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_PERCENTILES = {"p50_us": "p50", "p99_us": "p99", "p999_us": "p99.9"}


def _canvas(height: float) -> tuple[Any, Any]:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams.update(_STYLE)
    figure = Figure(figsize=(7.5, height), layout="constrained")
    return figure, figure.subplots()


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, format="svg", metadata={"Date": None})


def draw_throughput(results: Results, works: Sequence[Work], subjects: Mapping[str, str], path: Path) -> bool:
    """Draw messages per second over the number of connections; False if there are not two numbers to connect."""
    lines = {}
    for subject, title in subjects.items():
        points = [(work.connections, results.median(work.name, subject, work.metric.key)) for work in works]
        lines[title] = [(x, y) for x, y in points if y is not None]
    if max(map(len, lines.values()), default=0) < 2:
        return False
    figure, axes = _canvas(4.2)
    for title, known in lines.items():
        width = 2.5 if title == PROJECT.title else 1.2
        counts, rates = [x for x, _ in known], [y for _, y in known]
        axes.plot(counts, rates, marker="o", markersize=3, linewidth=width, label=title)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("connections")
    axes.set_ylabel("messages/s")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False, fontsize="small")
    _save(figure, path)
    return True


def draw_latencies(results: Results, work: Work, subjects: Mapping[str, str], path: Path) -> bool:
    """Draw the percentiles of a work's latencies, one line for each subject; False if there are none."""
    known = {
        title: [results.median(work.name, subject, key) for key in _PERCENTILES]
        for subject, title in subjects.items()
        if results.median(work.name, subject, "p50_us") is not None
    }
    if not known:
        return False
    figure, axes = _canvas(1.2 + 0.35 * len(known))
    rows = range(len(known))
    # Points, not bars: on a logarithmic axis the length of a bar would mean nothing.
    low, high = ([values[i] for values in known.values()] for i in (0, -1))
    axes.hlines(rows, low, high, color="lightgray", linewidth=2)
    for i, label in enumerate(_PERCENTILES.values()):
        axes.scatter([values[i] for values in known.values()], rows, label=label, zorder=2)
    _name_rows(axes, list(known))
    axes.set_xscale("log")
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel(f"latency in µs: {work.title}")
    figure.legend(loc="outside right upper", frameon=False, fontsize="small")
    _save(figure, path)
    return True


def draw_memory(results: Results, work: Work, subjects: Mapping[str, str], path: Path) -> bool:
    """Draw the memory that a connection takes; False if it was not measured."""
    medians = {title: results.median(work.name, name, work.metric.key) for name, title in subjects.items()}
    known = {title: value for title, value in medians.items() if value is not None}
    if not known:
        return False
    figure, axes = _canvas(1.0 + 0.3 * len(known))
    axes.bar_label(axes.barh(range(len(known)), list(known.values())), fmt="%.1f", padding=3)
    _name_rows(axes, list(known))
    axes.set_xlabel("KiB for an idle connection")
    _save(figure, path)
    return True


def _name_rows(axes: Any, titles: Sequence[str]) -> None:
    axes.set_yticks(range(len(titles)), titles)
    axes.invert_yaxis()
