"""``agesearch bench cluster``: a large simulated cluster, and one driver."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from agesearch.cli.common import JsonOption, out, print_json, shown_progress, table

EPILOG = "Example: agesearch bench cluster --slots 1000 --trials 10000"


def cluster(
    slots: Annotated[int, typer.Option("--slots", min=1, help="Trials at once.")] = 1000,
    trials: Annotated[int, typer.Option("--trials", min=1, help="Trials of the study.")] = 10_000,
    trial_s: Annotated[
        float, typer.Option("--trial-s", help="Seconds of a whole trial, at the median.")
    ] = 600.0,
    cpu_time: Annotated[
        bool, typer.Option("--cpu-time", help="Charge processor time: for a machine that is not quiet.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Whether one driver keeps a cluster's slots busy: a simulated study, driven by the real search."""
    from agesearch.bench.cluster.run import measure_cluster

    with shown_progress() as listener:
        found = measure_cluster(slots, trials, trial_s=trial_s, cpu_time=cpu_time, on_progress=listener)
    if as_json:
        print_json(asdict(found))
        return
    steady = "never full" if found.steady_share is None else f"{found.steady_share:.1%}"
    total = sum(found.driver_s.values())
    rows = [
        ["slots busy, from the start until the last trial was handed out", f"{found.busy_share:.1%}"],
        ["slots busy, from when all were first in use", steady],
        ["driver busy", f"{found.driver_share:.1%}"],
        ["trials a second that the driver could see through", f"{found.trials_per_s:.1f}"],
        ["the study's simulated time, s", f"{found.study_s:.0f}"],
        *(
            [f"driver: {name}", f"{spent:.1f} s ({spent / total:.0%})"]
            for name, spent in found.driver_s.items()
        ),
    ]
    title = f"{found.trials:,} trials on {found.slots:,} simulated slots ({found.clock} time)"
    out.print(table(title, ["", "measured"], rows))
