"""The charts of report.html, as SVG that scales with the page and takes its colours from the style sheet."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.etree.ElementTree import Element

from uniface_ray.core.markup import el
from uniface_ray.core.report_data import Point

WIDTH, HEIGHT = 440, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 24, 40
_TIME_UNITS = (
    (2 * 86400.0, 86400.0, "days"),
    (2 * 3600.0, 3600.0, "hours"),
    (120.0, 60.0, "minutes"),
    (0.0, 1.0, "seconds"),
)
_Axis = Callable[[float], float]
_MOST_POINTS = 300
_MOST_BARS = 40


def rows_chart(timeline: Sequence[Point]) -> Element:
    """Rows committed over time; `timeline` has two points or more."""
    step = math.ceil(len(timeline) / _MOST_POINTS)
    points = [*timeline[:-1:step], timeline[-1]]
    last = points[-1]
    x, y, plot = _plot(last.seconds, last.rows, "rows", True)
    line = " ".join(f"{x(point.seconds):.1f},{y(point.rows):.1f}" for point in points)
    floor = f"{x(last.seconds):.1f},{y(0):.1f} {x(points[0].seconds):.1f},{y(0):.1f}"
    plot.append(el("polygon", points=f"{line} {floor}", class_="area"))
    plot.append(el("polyline", points=line, class_="line"))
    return _titled(plot, f"Rows committed over time: {last.rows:,} after {last.seconds:,.0f} seconds")


def rate_chart(timeline: Sequence[Point]) -> Element:
    """Rows per second over time, each bar the mean of a stretch; `timeline` has two points or more."""
    end_s = timeline[-1].seconds
    bars = max(1, min(_MOST_BARS, len(timeline) // 2))
    edges = [end_s * i / bars for i in range(bars + 1)]
    rows = [_rows_at(timeline, edge) for edge in edges]
    rates = [(after - before) * bars / end_s for before, after in pairwise(rows)]
    x, y, plot = _plot(end_s, max(rates), "rows per second")
    for (start, end), rate in zip(pairwise(edges), rates, strict=True):
        label = f"{start:,.0f} to {end:,.0f} s: {rate:,.1f} rows/s"
        plot.append(_bar(x(start), x(end), y(rate), y(0), label))
    return _titled(plot, f"Rows per second over time: at most {max(rates):,.1f}")


@dataclass(frozen=True, slots=True)
class Curve:
    """A line of a chart: its name, and points (x, y) in order of x."""

    name: str
    points: list[tuple[float, float]]


def curves_chart(title: str, curves: Sequence[Curve], x_label: str) -> Element:
    """One to three lines over the same x; those without points are left out, one at least has two."""
    shown = [curve for curve in curves if curve.points]
    end = max(curve.points[-1][0] for curve in shown)
    values = [y for curve in shown for _, y in curve.points]
    x, y, plot = _frame(0, end, max(values), shown[0].name, x_label, whole=False)
    for tick in _ticks(0, end, 7, whole=True):
        plot.append(el("text", f"{tick:g}", x=x(tick), y=HEIGHT - 24.0, class_="tick middle"))
    for number, curve in enumerate(shown):
        points = curve.points[:: math.ceil(len(curve.points) / _MOST_POINTS)]
        line = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in [*points, curve.points[-1]])
        plot.append(el("polyline", points=line, class_=f"line curve-{number}"))
        if number:
            at, value = curve.points[-1]
            plot.append(el("text", curve.name, x=x(at), y=y(value) - 6, class_=f"label end curve-{number}"))
    lasts = ", ".join(f"{curve.name} {curve.points[-1][1]:.4g}" for curve in shown)
    return _titled(plot, f"{title} by {x_label}, at the end: {lasts}")


def words_chart(answer_words: dict[int, int]) -> Element:
    """Histogram of the answers' lengths; `answer_words` is not empty."""
    low, high = min(answer_words), max(answer_words)
    size = max(1, math.ceil(_nice((high - low + 1) / 24)))
    first = low // size * size
    bins = [0] * ((high - first) // size + 1)
    for words, count in answer_words.items():
        bins[(words - first) // size] += count
    end = first + size * len(bins)
    x, y, plot = _frame(first, end, max(bins), "answers", "words in an answer", True)
    for tick in _ticks(first, end - 1, 7, whole=True):
        middle = x(tick + (0.5 if size == 1 else 0))
        plot.append(el("text", f"{tick:g}", x=middle, y=HEIGHT - 24.0, class_="tick middle"))
    for i, count in enumerate(bins):
        start = first + i * size
        label = f"{start} words" if size == 1 else f"{start} to {start + size - 1} words"
        plot.append(_bar(x(start), x(start + size), y(count), y(0), f"{label}: {count:,}"))
    return _titled(plot, f"Length of {sum(bins):,} answers: {low} to {high} words")


def scores_chart(twentieths: Mapping[int, int]) -> Element:
    """Histogram of scores from 0 to 1; `twentieths` counts those in each twentieth, and is not empty."""
    x, y, plot = _frame(0, 1, max(twentieths.values()), "rows", "score", True)
    for tick in _ticks(0, 1, 5):
        plot.append(el("text", f"{tick:g}", x=x(tick), y=HEIGHT - 24.0, class_="tick middle"))
    for i, count in sorted(twentieths.items()):
        label = f"{i / 20:g} to {(i + 1) / 20:g}: {count:,}"
        plot.append(_bar(x(i / 20), x((i + 1) / 20), y(count), y(0), label))
    return _titled(plot, f"Scores of {sum(twentieths.values()):,} rows")


def _rows_at(timeline: Sequence[Point], seconds: float) -> float:
    """Rows at a time, interpolated: a chunk's rows were done since the commit before it."""
    before = timeline[0]
    for point in timeline:
        if point.seconds >= seconds:
            span_s = point.seconds - before.seconds
            share = (seconds - before.seconds) / span_s if span_s > 0 else 1.0
            return before.rows + (point.rows - before.rows) * max(0.0, share)
        before = point
    return before.rows


def _plot(end_s: float, top: float, label: str, whole: bool = False) -> tuple[_Axis, _Axis, Element]:
    """A frame whose x axis is time since the start."""
    unit_s, unit = next((size, name) for least, size, name in _TIME_UNITS if end_s >= least)
    x, y, plot = _frame(0, end_s, top, label, f"{unit} since the start", whole)
    for tick in _ticks(0, end_s / unit_s, 7):
        plot.append(el("text", f"{tick:g}", x=x(tick * unit_s), y=HEIGHT - 24.0, class_="tick middle"))
    return x, y, plot


def _frame(
    low: float, high: float, top: float, y_label: str, x_label: str, whole: bool
) -> tuple[_Axis, _Axis, Element]:
    """An SVG with a y axis from 0 to `top` (of `whole` things), after what places x in [low, high] and y."""
    ticks = _ticks(0, top, 4, whole)
    top = max(top, 1e-9)

    def x(value: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * (value - low) / (high - low)

    def y(value: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * value / top

    plot = el("svg", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img")
    for tick in ticks:
        plot.append(el("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y(tick), y2=y(tick), class_="grid"))
        value = f"{tick:,g}" if tick < 1e6 else f"{tick / 1e6:g} M"
        plot.append(el("text", value, x=_LEFT - 8, y=y(tick) + 4, class_="tick end"))
    plot.append(el("text", y_label, x=_LEFT, y=12, class_="label"))
    plot.append(el("text", x_label, x=WIDTH - _RIGHT, y=HEIGHT - 6, class_="label end"))
    return x, y, plot


def _bar(left: float, right: float, top: float, bottom: float, label: str) -> Element:
    gap = min(1.0, (right - left) / 8)
    size = {"width": round(right - left - gap, 2), "height": round(bottom - top, 2)}
    return el("rect", el("title", label), x=round(left, 2), y=round(top, 2), class_="bar", **size)


def _titled(plot: Element, title: str) -> Element:
    plot.insert(0, el("title", title))
    return plot


def _nice(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, ... that is not below `value`."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * (1 - 1e-9))


def _ticks(low: float, high: float, most: int, whole: bool = False) -> list[float]:
    """Round numbers from `low` to `high`, at most `most` + 1 of them."""
    if high <= low:
        return [low]
    step = _nice((high - low) / most)
    step = max(step, 1.0) if whole else step
    return [round(i * step, 10) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
