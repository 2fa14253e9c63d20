"""``agesearch bench record``: a table of learning curves, for ``agesearch replay``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agesearch.cli.common import say, shown_progress
from agesearch.errors import InputError, command

if TYPE_CHECKING:
    from agesearch.progress import Listener
    from agesearch.storage import Location

EPILOG = (
    "Example: agesearch bench record search_spaces/recorded-jittered.yaml --jittered 20000 --out "
    "jittered.parquet"
)


def record(
    space: Annotated[str, typer.Argument(metavar="SPACE.yaml", help="The study whose space is drawn from.")],
    out: Annotated[str, typer.Option("--out", metavar="FILE.parquet", help="The table.")],
    data: Annotated[str | None, typer.Option("--data", help="Dataset folder.")] = None,
    jittered: Annotated[
        int | None,
        typer.Option("--jittered", min=200, help="Instead: so many faces, jittered from the demo's."),
    ] = None,
    teacher: Annotated[
        str | None, typer.Option("--teacher", help="Model folder or YAML file (default: labels alone).")
    ] = None,
    trials: Annotated[
        int | None, typer.Option("--trials", min=1, help="Configurations (default: as the YAML says).")
    ] = None,
    work: Annotated[
        str | None,
        typer.Option(
            "--work",
            help="What is trained so far; processes with the same folder share the work (default: the "
            "table's name with '.work').",
        ),
    ] = None,
) -> None:
    """Train random configurations of a space to their ends, for 'agesearch replay' to compare strategies on.

    One process, one thread, no Ray. Run it again to go on after a kill, or several times at once to share the
    work. The table is written by the one that finds all configurations trained.
    """
    from agesearch.session import set_environment

    set_environment()  # before torch is imported
    from agesearch.bench.record import record_curves
    from agesearch.search.replay.curve_table import as_table
    from agesearch.search.space.space import load_space
    from agesearch.storage import Location, beside

    if not out.endswith(".parquet"):
        raise InputError(f"--out is '{out}', but must end in .parquet: it is a table.")
    if (data is None) == (jittered is None):
        raise InputError("Give the faces to train on by --data FOLDER, or by --jittered N: one of the two.")
    spec, place = load_space(space), Location.of(work or beside(out, ".work"))
    spec = spec if trials is None else spec.model_copy(update={"trials": trials})
    with shown_progress() as listener:
        faces = _jittered(place / "faces", jittered, listener) if jittered else Location.of(str(data))
        known = None if teacher is None else Location.of(teacher)
        found = record_curves(spec, faces, known, place, on_progress=listener)
    there = len(found.rows) + found.left_out
    if there < spec.trials:
        say(f"{there} of {spec.trials} configurations are trained, other processes train the rest.")
        return
    Location.of(out).write_table(as_table(found))
    say(f"{len(found.rows)} learning curves in '{out}', {found.left_out} configurations failed.")
    say(f"Compare strategies on it: {command('replay', out)}")


def _jittered(place: Location, count: int, on_progress: Listener) -> Location:
    """The dataset of so many jittered faces, made where it is not there yet."""
    from agesearch.bench.scale.faces import write_dataset
    from agesearch.data.dataset.records import MANIFEST

    if not (place / MANIFEST).exists():
        write_dataset(place, count, on_progress)
    return place
