"""``agesearch teacher``: what a teacher is, and how good it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from agesearch.cli.common import PLAIN, JsonOption, err, out, print_json, shown_progress, table
from agesearch.cli.publish import RegistryOption
from agesearch.cli.refit import LearnFoldsOption, LearnSplitOption
from agesearch.metrics import signed

if TYPE_CHECKING:
    from agesearch.data.dataset.records import Split
    from agesearch.measure.intervals import Estimate
    from agesearch.measure.teachers import TeacherFacts
    from agesearch.training.refit.stack import Stacked

_EXAMPLE = "Example: agesearch teacher show search_spaces/teachers/ensemble.yaml --data faces"

_STACK_EXAMPLE = (
    "Example: agesearch teacher stack refitted search_spaces/teachers/faceres.yaml --data faces "
    "--out stacked.json"
)

app = typer.Typer(no_args_is_help=True)


def add_to(root: typer.Typer) -> None:
    """Register the group."""
    root.add_typer(
        app, name="teacher", rich_help_panel="Teachers", help="Look at a teacher, or make one of several."
    )


@app.callback()
def options() -> None:
    """Look at a teacher before using it.

    A teacher is a model folder of 'agesearch teach' (of the student's own architecture for a born-again
    student), an ONNX file of other people with a YAML manifest, or an ensemble of both kinds.
    """


@app.command("show", epilog=_EXAMPLE)
def show(
    teacher: Annotated[
        str,
        typer.Argument(
            metavar="TEACHER", help="Model folder, or the YAML of a foreign teacher or an ensemble."
        ),
    ],
    data: Annotated[
        str | None, typer.Option("--data", help="Dataset to measure its accuracy on, by decade of age.")
    ] = None,
    split: Annotated[
        Literal["train", "val", "test"], typer.Option("--split", help="Which of its faces.")
    ] = "val",
    as_json: JsonOption = False,
) -> None:
    """Show what a teacher is, how fast, and with --data how good it is by decade of age.

    Of an order teacher ('teach --kind order') --data tells how well it sorts: Kendall's tau, the share of
    sequences without a fault, and the error of ages read off its features by a linear probe.
    """
    from agesearch.data.dataset.records import Split
    from agesearch.measure.teachers import describe_teacher
    from agesearch.models.order_net import is_order_teacher

    if is_order_teacher(teacher):
        _show_order(teacher, data, Split(split), as_json)
        return
    with shown_progress() as on_progress:
        facts = describe_teacher(teacher, data, Split(split), on_progress=on_progress)
    if as_json:
        print_json(facts.model_dump(mode="json"))
        return
    out.print(table(f"Teacher {facts.name}", ["", ""], _rows(facts)))
    if facts.members:
        columns = ["member", "share", "kind", "px", "MB", "crop", "licence"]
        out.print(table("Members", columns, [_member(member) for member in facts.members]))
    if facts.accuracy:
        _print_accuracy(facts)


@app.command("stack", epilog=_STACK_EXAMPLE)
def stack(
    members: Annotated[
        list[str],
        typer.Argument(metavar="TEACHER...", help="Model folders, names of the registry, teachers' YAML."),
    ],
    data: Annotated[str, typer.Option("--data", help="Dataset whose labels choose the shares.")],
    out_file: Annotated[str, typer.Option("--out", metavar="FILE", help="The document to write: .json.")],
    split: LearnSplitOption = "train",
    folds: LearnFoldsOption = None,
    registry: RegistryOption = "registry",
    as_json: JsonOption = False,
) -> None:
    """Make one teacher of several: a mixture of their answers by shares that labelled faces choose.

    Shares and a line that corrects the mixture's age are those of least squared error (stacking, Breiman
    1996). A member must not have seen the faces; a model of 'agesearch refit' answers for them by what its
    cross-validation said. What is told is of persons that chose nothing. FILE is a calibrated teacher, which
    stands wherever a teacher does; the ensemble that it names is written beside it.
    """
    from agesearch.deploy.registry import model_folders
    from agesearch.measure.protocols import part_named
    from agesearch.training.refit.stack import stack as run_stack

    places = model_folders(members, registry)
    with shown_progress() as on_progress:
        found = run_stack(places, data, out_file, part=part_named(split, folds), on_progress=on_progress)
    if as_json:
        print_json(found.record.model_dump(mode="json"))
    else:
        _tell_stack(found)


def _tell_stack(found: Stacked) -> None:
    from agesearch.measure.intervals import basis

    record, change = found.record, found.record.change_years
    rows = [[one.name, f"{one.share:.0%}", *_mean(one.mae_years)[:2]] for one in record.members]
    rows.append(["together", "", *_mean(record.mae_years)[:2]])
    title = f"Held-out persons of {basis(record.faces, record.persons)}"
    out.print(table(title, ["member", "share", "MAE, years", "95 %"], rows, sections=[len(rows) - 2]))
    words = f"{signed(change.value)} ({signed(change.low)} to {signed(change.high)})"
    err.print(f"Together less {record.best} alone: {words} years.", **PLAIN)
    for note in record.notes:
        err.print(f"Note: {note}", style="yellow", highlight=False, markup=False)
    err.print(f"Written to {found.place}, which names {found.ensemble.name} beside it.", **PLAIN)


def _show_order(teacher: str, data: str | None, split: Split, as_json: bool) -> None:
    from agesearch.distill.sorting import describe_order
    from agesearch.measure.intervals import basis

    with shown_progress() as on_progress:
        facts = describe_order(teacher, data, split, on_progress=on_progress)
    if as_json:
        print_json(facts.model_dump(mode="json"))
        return
    turned = "aligned" if facts.crop_align else "not aligned"
    rows = [
        ["kind", "order teacher: sorts faces by age, gives no ages"],
        ["input", f"{facts.input_size} px"],
        ["size", f"{facts.parameters / 1e6:.2f} M parameters, {facts.bytes / 1e6:.1f} MB"],
        ["crop", f"{facts.crop_scale:g} x the face's box, {turned}"],
        [
            "learnt by",
            f"{facts.loss} at {facts.temperature:g}, {facts.length} faces, {facts.gap:g} years apart",
        ],
        ["digest", facts.content_digest],
        *([name.replace("_", " "), f"{value:.4g}"] for name, value in facts.training.items()),
    ]
    out.print(table(f"Teacher {facts.name}", ["", ""], rows))
    if facts.quality:
        found = facts.quality
        low, high = found.probe_interval
        probed = f"MAE {found.probe_mae_years:.2f} years ({low:.2f}–{high:.2f})"
        seen = basis(found.faces, found.persons)
        rows = [
            ["Kendall tau", f"{found.kendall_tau:.3f} ({found.sequences} sequences of {seen})"],
            ["without a fault", f"{found.exact_match:.1%}"],
            ["linear probe", f"{probed}; always the median: {found.median_mae_years:.2f}"],
        ]
        out.print(table(f"Sorting {found.dataset}, split {found.split}", ["", ""], rows))


def _rows(facts: TeacherFacts) -> list[list[str]]:
    rows = [
        ["kind", {"ours": "trained here", "foreign": "foreign ONNX"}.get(facts.kind, facts.kind)],
        ["input", f"{facts.input_size} px"],
        ["size", f"{facts.parameters / 1e6:.2f} M parameters, {facts.bytes / 1e6:.1f} MB"],
        ["crop", _crop(facts)],
        ["licence", "; ".join(f"{name}: {text}" for name, text in facts.licences.items()) or "not said"],
        ["digest", facts.content_digest],
    ]
    if facts.source:
        rows.insert(1, ["source", facts.source])
    if facts.speed:
        speed = facts.speed
        rows.append(
            ["speed", f"{speed.latency_ms_p50:.2f} ms a face, 1 thread (p95 {speed.latency_ms_p95:.2f})"]
        )
        rows.append(["", speed.hardware])
    rows += [[name.replace("_", " "), f"{value:.4g}"] for name, value in facts.training.items()]
    return rows


def _crop(facts: TeacherFacts) -> str:
    turned = {True: ", aligned", False: ", not aligned", None: ""}[facts.crop_align]
    return f"{facts.crop_scale:g} x the face's box{turned}"


def _member(facts: TeacherFacts) -> list[str]:
    licence = "; ".join(facts.licences.values()) or "not said"
    size = f"{facts.bytes / 1e6:.1f}"
    return [facts.name, f"{facts.share:.0%}", facts.kind, str(facts.input_size), size, _crop(facts), licence]


def _print_accuracy(facts: TeacherFacts) -> None:
    found = facts.accuracy
    assert found is not None
    rows = [[f"{d.first}–{d.last}", *_mean(d.mae_years), signed(d.bias_years)] for d in found.decades]
    rows.append(["all", *_mean(found.mae_years), signed(found.bias_years)])
    title = f"Accuracy on {found.dataset}, split {found.split}"
    out.print(table(title, ["age", "MAE, years", "95 %", "faces", "persons", "bias"], rows))
    words = (
        f"{found.cs5:.1%} within 5 years. Mean width of its distributions: {found.spread_years:.1f} years."
    )
    err.print(words, highlight=False, soft_wrap=True)
    for note in found.notes:
        err.print(f"Note: {note}", style="yellow", highlight=False, markup=False)


def _mean(mean: Estimate) -> list[str]:
    persons = "–" if mean.persons is None else f"{mean.persons:,}"
    return [f"{mean.value:.2f}", f"{mean.low:.2f}–{mean.high:.2f}", f"{mean.faces:,}", persons]
