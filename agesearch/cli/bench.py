"""``agesearch bench``: measurements of agesearch itself that anyone can run again."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from agesearch.cli.common import JsonOption, out, print_json, table


def add_to(app: typer.Typer) -> None:
    """Register the ``bench`` group."""
    group = typer.Typer(no_args_is_help=True, help="Measure agesearch itself, on this machine.")
    group.command("overhead", epilog="Example: agesearch bench overhead --trials 20")(overhead)
    app.add_typer(group, name="bench", rich_help_panel="Search")


def overhead(
    data: Annotated[
        str | None, typer.Option("--data", help="Dataset to train on (default: the demo's faces).")
    ] = None,
    trials: Annotated[int, typer.Option("--trials", min=2, help="Short trials to run.")] = 20,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", help="Trials at once (default: one a CPU).")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """How many seconds a trial takes besides its own training, over a study of short trials."""
    from agesearch.bench.overhead import bench_faces, measure_overhead
    from agesearch.cli.tune_view import shown_study
    from agesearch.storage import Location

    with bench_faces(None if data is None else Location.of(data)) as faces, shown_study() as listener:
        found = measure_overhead(faces, trials=trials, concurrency=concurrency, on_event=listener)
    if as_json:
        print_json(asdict(found))
        return
    rows = [
        ["mean overhead of a trial, s", f"{found.mean_s:.2f}"],
        ["median, s", f"{found.median_s:.2f}"],
        ["worst, s", f"{found.max_s:.2f}"],
        ["mean training of a trial, s", f"{found.training_s:.2f}"],
        ["start of the study until the first trial, s", f"{found.start_s:.1f}"],
    ]
    out.print(table(f"{found.trials} trials, {found.concurrency} at once", ["", "measured"], rows))
