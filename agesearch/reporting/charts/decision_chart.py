"""Challenge age against both rates, with the buffer that each target rate costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from agesearch.measure.decisions.buffers import Buffer
from agesearch.measure.decisions.rates import Rate
from agesearch.measure.decisions.records import CurvePoint, ModelDecisions
from agesearch.measure.decisions.rules import short_sides
from agesearch.metrics import signed
from agesearch.reporting.charts.axes import Axis
from agesearch.reporting.charts.plots import Chart, Kind, Mark, Polyline, axis, laid_out

_PASS, _REFUSED, _WORST, _LIMIT = "curve-3", "curve-4", "curve-2", "curve-1"


def decision_chart(model: ModelDecisions, legal_age: float, max_fpr: float | None, number: int) -> Chart:
    """The rates of those below the limit who pass and of the others who are refused, with 95 % bands, and
    each target rate at its challenge age. ``number`` tells the charts of one page apart.
    """
    points, (below, reached) = model.curve, short_sides(legal_age)
    first, last = points[0].challenge_age, points[-1].challenge_age
    x = axis("challenge age, years", first, last)
    y = replace(axis("share of faces", 0.0, 1.0), written=_percent)
    curves = [
        _band(points, lambda point: point.fpr, "band-3"),
        _band(points, lambda point: point.fnr, "band-4"),
        _line(points, lambda point: point.worst_fpr, _WORST, f"{below} of the worst cell who pass"),
        _line(points, lambda point: _value(point.fpr), _PASS, f"{below} who pass"),
        _line(points, lambda point: _value(point.fnr), _REFUSED, f"{reached} who are refused"),
        Polyline([(legal_age, 0.0), (legal_age, 1.0)], _LIMIT, (f"legal age {legal_age:g}",)),
    ]
    return laid_out(
        f"Challenge age and both rates {number}",
        x,
        y,
        curves=[curve for curve in curves if len(curve.points) > 1],
        marks=_marks(model.buffers, x, max_fpr, reached),
        legend=[
            (_PASS, f"{below} who pass"),
            (_WORST, "of the worst cell"),
            (_REFUSED, f"{reached} refused"),
            (_LIMIT, f"legal age {legal_age:g}"),
            ("front", "target rate: buffer, years"),
        ],
    )


def _percent(value: float) -> str:
    return f"{value:.0%}"


def _value(rate: Rate) -> float | None:
    return None if rate.estimate is None else rate.estimate.value


def _line(
    points: Sequence[CurvePoint], value: Callable[[CurvePoint], float | None], kind: str, name: str
) -> Polyline:
    found = [(point.challenge_age, at) for point in points if (at := value(point)) is not None]
    return Polyline(found, kind, (name,))


def _band(points: Sequence[CurvePoint], rate: Callable[[CurvePoint], Rate], kind: str) -> Polyline:
    known = [(point.challenge_age, found) for point in points if (found := rate(point).estimate) is not None]
    low, high = (
        [(age, end) for age, end in ends]
        for ends in ([(age, one.low) for age, one in known], [(age, one.high) for age, one in known])
    )
    return Polyline([*low, *reversed(high)], kind)


def _marks(buffers: Sequence[Buffer], x: Axis, max_fpr: float | None, reached: str) -> list[Mark]:
    """The target rates that are on the chart. Few faces make several need one challenge age: those share a
    label, which stands at the highest.
    """
    shown = [one for one in buffers if one.challenge_age is not None and x.holds(one.challenge_age)]
    found = []
    for age in dict.fromkeys(one.challenge_age for one in shown):
        alike = sorted((one for one in shown if one.challenge_age == age), key=lambda one: -one.max_fpr)
        rates = [f"{100 * one.max_fpr:g}" for one in alike]
        label = f"{rates[0]} to {rates[-1]} %" if len(rates) > 1 else f"{rates[0]} %"
        found += [_mark(one, max_fpr, label if one is alike[0] else "", reached) for one in alike]
    return found


def _mark(one: Buffer, max_fpr: float | None, label: str, reached: str) -> Mark:
    """A target rate at its challenge age, with its buffer behind the label."""
    assert one.challenge_age is not None  # the caller looked
    assert one.years is not None
    refused = _value(one.adults_refused)
    details = (
        f"at most {100 * one.max_fpr:g} % of the worst cell pass at {one.challenge_age:.2f} years",
        f"buffer {signed(one.years)} years; worst cell: {one.worst_cell}",
        "" if refused is None else f"{reached} refused: {refused:.0%}",
    )
    kind: Kind = "picked" if one.max_fpr == max_fpr else "front"
    return Mark(
        one.challenge_age, one.max_fpr, kind, details, f"{label}: {signed(one.years, 1)}" if label else ""
    )
