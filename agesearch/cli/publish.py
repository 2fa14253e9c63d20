"""``agesearch publish``: put a student into the registry, and say how it does beside the one before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agesearch.cli.common import JsonOption, out, print_json, say, shown_progress
from agesearch.errors import command
from agesearch.metrics import signed

if TYPE_CHECKING:
    from agesearch.deploy.comparison import VersionComparison
    from agesearch.deploy.publish import Published

RegistryOption = Annotated[
    str,
    typer.Option("--registry", envvar="AGESEARCH_REGISTRY", help="Folder or URI of the registry."),
]

_PUBLISH_EXAMPLE = "Example: agesearch publish studies/first --pick knee --name ages"


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("publish", rich_help_panel="Results", epilog=_PUBLISH_EXAMPLE)(publish)


def publish(
    source: Annotated[
        str, typer.Argument(metavar="STUDY", help="Study folder, or a model folder with --data.")
    ],
    name: Annotated[str, typer.Option("--name", help="Name of the model in the registry.")],
    pick: Annotated[
        str, typer.Option("--pick", metavar="knee|best|fastest|TRIAL", help="Which trial of the study.")
    ] = "knee",
    registry: RegistryOption = "registry",
    alias: Annotated[str, typer.Option("--alias", help="The alias that shall point to it.")] = "champion",
    data: Annotated[
        str | None, typer.Option("--data", help="Dataset to check the export on; default: the study's own.")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option("--teacher", help="Where the teacher is now; default: where the study found it."),
    ] = None,
    max_drop: Annotated[
        float,
        typer.Option("--max-drop", min=0.0, help="Years of MAE that int8 or bf16 may lose; 0: fp32 alone."),
    ] = 0.1,
    json_output: JsonOption = False,
) -> None:
    """Export a student to ONNX, prove that it answers as trained, and publish it as an immutable version.

    What its card says and is not known yet is measured first, as 'agesearch report' does: speed beside the
    teacher, accuracy, robustness.
    """
    from agesearch.deploy.publish import publish as publish_model
    from agesearch.deploy.registry import CHAMPION
    from agesearch.models.calibration.record import CALIBRATION

    with shown_progress() as on_progress:
        published = publish_model(
            source,
            name,
            registry,
            pick=pick,
            dataset=data,
            teacher=teacher,
            alias=alias,
            max_drop=max_drop,
            on_progress=on_progress,
        )
    if json_output:
        print_json(_published_json(published))
        return
    _tell(published)
    before = published.previous
    if before is not None and before.number != published.version.number:
        say(f"Back: {command('models', 'move', name, alias, before.number, *registry_words(registry))}")
    reference = name if alias == CHAMPION else f"{name}@{alias}"
    if CALIBRATION not in published.version.manifest().files:
        say(
            "Its intervals are its own belief, which nobody has checked. Make them honest: "
            f"{command('calibrate', reference, '--data', data or 'FACES', *registry_words(registry))}"
        )
    say(f"Next: {command('serve', reference, *registry_words(registry))}")


def registry_words(registry: str) -> list[str]:
    """The option that names a registry, for a command that is suggested; none for the usual one."""
    return [] if registry == "registry" else ["--registry", registry]


def _tell(published: Published) -> None:
    version, alias = published.version, published.alias
    state = "Published" if published.is_new else "Already in the registry, unchanged:"
    before = published.previous
    if before is None:
        moved = f"{alias.alias} is new and points to {alias.version}"
    elif before.number == version.number:
        moved = f"{alias.alias} points to {alias.version} as before"
    else:
        moved = f"{alias.alias} pointed to {before.number} and now points to {alias.version}"
    _line(f"{state} {version.label}; {moved}.")
    _line(f"  files    {version.folder}")
    parity = published.parity
    if parity:
        _line(
            f"  parity   ONNX against torch on {parity['faces']} faces: ages differ by at most "
            f"{parity['age_max_difference_years']:.2g} years (allowed: {parity['age_tolerance_years']:g})"
        )
    for row in published.version.manifest().precisions:
        _line(f"  {row['precision']:<8} {row['runtime']}: {_gate_words(row)}")
    if published.comparison is not None:
        for line in comparison_lines(published.comparison):
            _line(f"  {line}")
    elif published.uncompared:
        _line(f"  not compared with the one before: {published.uncompared}")


def _gate_words(row: dict[str, Any]) -> str:
    """What the gate of an engine found; the first one is what all others are measured against."""
    if not row["holds"]:
        return f"not: {row['reason']}"
    lost = row["drop_years"]
    return (
        "what the others are measured against"
        if lost is None
        else f"as good as fp32 ({signed(lost, 3)} years)"
    )


def comparison_lines(found: VersionComparison) -> list[str]:
    """A comparison in words, a line for each figure; ``WORSE`` is what to look for."""
    error, (old, new), (before, after) = found.error, found.latency_ms, found.size_bytes
    lines = [f"error    not compared: {found.why}"]
    if error is not None:
        interval = f"{signed(error.difference)} ({signed(error.low)} to {signed(error.high)})"
        lines = [
            f"error    {error.old:.2f} -> {error.new:.2f} years, {interval} on {error.faces:,} "
            f"{error.split} faces: {_loud(found.judgement)}",
            *(f"         {note}" for note in error.notes),
        ]
    lines.append(f"latency  {old:.3g} -> {new:.3g} ms, timed in turns: {_loud(found.speed)}")
    if before is not None and after is not None:
        lines.append(f"size     {megabytes(before)} -> {megabytes(after)} MB")
    return lines


def megabytes(size: int) -> str:
    """Bytes as MB with a digit behind the point."""
    return f"{size / 1e6:.1f}"


def _loud(judgement: str) -> str:
    return judgement.upper() if judgement == "worse" else judgement


def _published_json(published: Published) -> dict[str, Any]:
    return {
        "name": published.version.name,
        "version": published.version.number,
        "folder": str(published.version.folder),
        "is_new": published.is_new,
        "alias": published.alias.alias,
        "previous": published.previous.number if published.previous else None,
        "comparison": published.comparison.as_json() if published.comparison else None,
        "parity": published.parity,
        "precisions": published.version.manifest().precisions,
    }


def _line(text: str) -> None:
    out.print(text, highlight=False, markup=False, soft_wrap=True)
