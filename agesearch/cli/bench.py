"""``agesearch bench``: measurements of agesearch itself that anyone can run again."""

from __future__ import annotations

from dataclasses import asdict
from statistics import median
from typing import TYPE_CHECKING, Annotated

import typer

from agesearch.cli import (
    bench_chaos,
    bench_cluster,
    bench_drills,
    bench_monitoring,
    bench_record,
    bench_roll,
    bench_serve,
)
from agesearch.cli.bench_scale import EPILOG, scale
from agesearch.cli.common import JsonOption, out, print_json, separated, shown_progress, table

if TYPE_CHECKING:
    from agesearch.bench.distill import Epochs, Peak
    from agesearch.bench.ingest import Footprint, Throughput
    from agesearch.bench.race import Race

_SPEED_RECORDS, _MEMORY_RECORDS = 1_200, 20_000


def add_to(app: typer.Typer) -> None:
    """Register the ``bench`` group."""
    group = typer.Typer(no_args_is_help=True, help="Measure agesearch itself, on this machine.")
    group.command("overhead", epilog="Example: agesearch bench overhead --trials 20")(overhead)
    group.command("search", epilog="Example: agesearch bench search --trials 1000,10000 --turns 3")(search)
    group.command("ingest", epilog="Example: agesearch bench ingest --records 1200")(ingest)
    group.command("cluster", epilog=bench_cluster.EPILOG)(bench_cluster.cluster)
    group.command("drills", epilog=bench_drills.EPILOG)(bench_drills.drills)
    group.command("monitoring", epilog=bench_monitoring.EPILOG)(bench_monitoring.monitoring)
    group.command("chaos", epilog=bench_chaos.EPILOG)(bench_chaos.chaos)
    group.command("robustness", epilog="Example: agesearch bench robustness --models 8")(robustness)
    group.command("serve", epilog=bench_serve.EPILOG)(bench_serve.serve)
    group.command("roll", epilog=bench_roll.EPILOG)(bench_roll.roll)
    group.command("distill", epilog="Example: agesearch bench distill --faces 256")(distill)
    group.command("scale", epilog=EPILOG)(scale)
    group.command("record", epilog=bench_record.EPILOG)(bench_record.record)
    app.add_typer(group, name="bench", rich_help_panel="agesearch itself")


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


def search(
    trials: Annotated[
        str, typer.Option("--trials", help="Finished trials that the search knows; with commas.")
    ] = "100,1000,10000",
    data: Annotated[
        str | None, typer.Option("--data", help="Dataset to race on (default: the demo's faces).")
    ] = None,
    turns: Annotated[
        int, typer.Option("--turns", min=0, help="Turns of the race against plain loops; 0: no race.")
    ] = 3,
    configurations: Annotated[
        int | None, typer.Option("--configurations", min=1, help="Trials of a turn (default: 4; --race: 24).")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="Epochs of each of them (default: 3; --race: 10).")
    ] = None,
    to_one_volume: Annotated[
        bool,
        typer.Option(
            "--race", help="Instead: a study and a careful loop by the clock, to the same hypervolume."
        ),
    ] = False,
    teacher: Annotated[
        str | None, typer.Option("--teacher", help="Teacher of --race (default: labels alone).")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """How fast a search decides on generated histories, and its trials an hour against plain loops."""
    from agesearch.session import set_environment

    set_environment()  # before torch is imported: its threads would spin, which slows the loops most
    if to_one_volume:
        from agesearch.cli.bench_race import race_to_one_volume

        race_to_one_volume(data, teacher, configurations or 24, epochs or 10, max(turns, 1), as_json)
        return
    from agesearch.bench.overhead import bench_faces
    from agesearch.bench.race import race
    from agesearch.bench.search import measure_search
    from agesearch.errors import InputError
    from agesearch.storage import Location

    sizes = separated(trials)
    if not all(size.isdecimal() for size in sizes):
        raise InputError(f"--trials is '{trials}', but must be whole numbers with commas.")
    raced: Race | None = None
    with shown_progress() as listener:
        found = measure_search([int(size) for size in sizes], on_progress=listener)
        if turns:
            with bench_faces(None if data is None else Location.of(data)) as faces:
                raced = race(
                    faces,
                    configurations=configurations or 4,
                    epochs=epochs or 3,
                    turns=turns,
                    on_progress=listener,
                )
    if as_json:
        rows_json = [asdict(row) for row in found]
        print_json({"decisions": rows_json, "race": None if raced is None else asdict(raced)})
        return
    columns = ["finished trials", "suggestion, ms", "front, ms", "rung, ms", "tell, ms", "memory, MB"]
    rows = [
        [
            f"{row.trials:,}",
            *(f"{value:.1f}" for value in (row.suggest_ms, row.front_ms, row.rung_ms, row.tell_ms)),
            f"{row.memory_mb:.0f}",
        ]
        for row in found
    ]
    out.print(table("Median times of a search", columns, rows))
    if raced is not None:
        _tell_race(raced)


def _tell_race(found: Race) -> None:
    rows = [
        [f"{name}, trials an hour", f"{median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f})"]
        for name, rates in found.per_hour.items()
    ]
    rows += [
        ["study / plain loop", f"{found.over_plain:.2f}"],
        ["study / loop with our training", f"{found.over_tuned:.2f}"],
        ["study, start included / plain loop", f"{found.whole_over_plain:.2f}"],
        ["overhead of a trial, s", f"{found.overhead_s:.2f}"],
        ["start of Ray, s", f"{found.ray_start_s:.1f}"],
    ]
    title = f"{found.configurations} configurations of {found.epochs} epochs, {found.threads} cores"
    out.print(table(title, ["", "median (spread)"], rows))


def ingest(
    records: Annotated[int, typer.Option("--records", min=64, help="Photographs to generate.")] = 1200,
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, help="Worker processes (default: one a core).")
    ] = None,
    turns: Annotated[int, typer.Option("--turns", min=1, help="Times that loop and ingest take turns.")] = 2,
    memory: Annotated[
        bool,
        typer.Option("--memory", help="Measure memory instead, over so many tiny images and ten times more."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Faces a second of the ingest beside a bare loop over the same work; its memory at two sizes."""
    from agesearch.bench.ingest import measure_memory, measure_throughput

    with shown_progress() as listener:
        if memory:
            few = records or _MEMORY_RECORDS
            prints = measure_memory([few, 10 * few], processes, listener)
        else:
            found = measure_throughput(records or _SPEED_RECORDS, processes, turns, listener)
    if as_json:
        print_json([asdict(row) for row in prints] if memory else asdict(found))
    elif memory:
        _tell_memory(prints)
    else:
        _tell_throughput(found)


def distill(
    data: Annotated[
        str | None, typer.Option("--data", help="Dataset to train on (default: the demo's faces).")
    ] = None,
    faces: Annotated[int, typer.Option("--faces", min=32, help="Faces of an epoch.")] = 256,
    views: Annotated[int, typer.Option("--views", min=1, help="Fixed views of each face.")] = 4,
    turns: Annotated[int, typer.Option("--turns", min=1, help="Epochs of each kind, in turns.")] = 9,
    online_turns: Annotated[
        int, typer.Option("--online-turns", min=1, help="Of these, with the teacher asked in each step.")
    ] = 3,
    memory_faces: Annotated[
        int,
        typer.Option("--memory-faces", min=64, help="Faces of the memory measurement; and 4 times so many."),
    ] = 2000,
    as_json: JsonOption = False,
) -> None:
    """What a teacher costs a student's epoch: none, with stored targets, and asked in each step."""
    from agesearch.bench.distill import measure_epochs, measure_memory
    from agesearch.data.reading.demo_pack import demo_pack
    from agesearch.storage import Location

    dataset = demo_pack() if data is None else Location.of(data)
    with shown_progress() as listener:
        epochs = measure_epochs(
            dataset,
            faces=faces,
            views=views,
            turns=turns,
            online_turns=min(turns, online_turns),
            on_progress=listener,
        )
        peaks = measure_memory(memory_faces, on_progress=listener)
    if as_json:
        print_json(
            {"epochs": asdict(epochs), "ratios": epochs.summary(), "memory": [asdict(p) for p in peaks]}
        )
        return
    _tell_epochs(epochs, peaks)


def _tell_epochs(epochs: Epochs, peaks: list[Peak]) -> None:
    def spread(values: list[float]) -> str:
        return f"{median(values):.3f}  ({min(values):.3f} to {max(values):.3f}, {len(values)} turns)"

    rows = [[f"{kind}, s an epoch", spread(seconds)] for kind, seconds in epochs.seconds.items()]
    rows += [[name, spread(values)] for name, values in epochs.all_ratios().items()]
    rows += [
        [f"the teacher with {name}, ms a face", f"{value:.1f}"]
        for name, value in epochs.teacher_ms_a_face.items()
    ]
    rows.append(["drawing a fixed view for the first time, ms a face", f"{epochs.drawing_ms_a_face:.2f}"])
    rows += [
        [f"peak memory, targets of {p.faces:,} faces x {p.views} views, MiB", f"{p.peak_mib:.0f}"]
        for p in peaks
    ]
    title = f"{epochs.student} on {epochs.faces} faces, {epochs.threads} threads; teacher {epochs.teacher}"
    out.print(table(title, ["", "median (spread)"], rows))


def _tell_throughput(found: Throughput) -> None:
    def spread(rates: list[float]) -> str:
        return f"{median(rates):.1f}  ({min(rates):.1f} to {max(rates):.1f}, {len(rates)} runs)"

    n = found.processes
    rows = [
        ["bare loop, one process, faces/s", spread(found.loops)],
        [f"{n} bare loops at once, together, faces/s", spread(found.loops_at_once)],
        [f"ingest, {n} processes, steady part, faces/s", spread(found.steady)],
        ["ingest with Ray's start and the writing, faces/s", spread(found.whole)],
        [f"steady part / ({n} x bare loop)", f"{found.ratio:.2f}"],
        [f"steady part / {n} bare loops at once", f"{found.ratio_of_ceiling:.2f}"],
        ["peak memory of the process tree, MiB", f"{found.peak_mib:.0f}"],
        ["load of the machine before", f"{found.load_before:.2f}"],
    ]
    out.print(table(f"{found.records} photographs of 640 x 480", ["", "median (spread)"], rows))


def _tell_memory(prints: list[Footprint]) -> None:
    rows = [
        [f"{row.records:,}", f"{row.peak_mib:.0f}", str(row.processes), f"{row.seconds:.0f}"]
        for row in prints
    ]
    columns = ["records", "peak of the process tree, MiB (PSS)", "processes", "seconds"]
    out.print(table("ingest of tiny images, no detector", columns, rows))


def robustness(
    faces: Annotated[int, typer.Option("--faces", min=1, help="Faces of the demo.")] = 128,
    models: Annotated[int, typer.Option("--models", min=2, help="Models that share a pass.")] = 8,
    turns: Annotated[int, typer.Option("--turns", min=1, help="Turns that are timed.")] = 3,
    corruption_set: Annotated[
        str, typer.Option("--set", metavar="hendrycks|lfwc", help="The corruptions, at severity 3.")
    ] = "hendrycks",
    as_json: JsonOption = False,
) -> None:
    """How fast `measure robustness` is beside a bare loop, and what eight models cost beside one."""
    from agesearch.bench.robustness import bench_robustness
    from agesearch.session import set_environment

    set_environment()
    with shown_progress() as on_progress:
        found = bench_robustness(
            faces=faces, models=models, turns=turns, set_name=corruption_set, on_progress=on_progress
        )
    ratios = {
        "of_the_cores": found.of_the_cores,
        "sustained_of_the_cores": found.sustained_of_the_cores,
        "of_loops_at_once": found.of_loops_at_once,
        "many_over_one": found.many_over_one,
        "sustained_many_over_one": found.sustained_many_over_one,
    }
    if as_json:
        print_json(asdict(found) | ratios)
        return
    rows = [
        ["bare loop, one core, faces/s", f"{found.bare_per_s:.0f}"],
        [f"{found.cores} bare loops at once, faces/s", f"{found.loops_per_s:.0f}"],
        [f"measure robustness, {found.cores} cores, one model, faces/s", f"{found.one_per_s:.0f}"],
        [f"the same over {found.cores} x the bare loop", f"{found.of_the_cores:.2f}"],
        ["... from its first answers to its last", f"{found.sustained_of_the_cores:.2f}"],
        [f"the same over {found.cores} bare loops at once", f"{found.of_loops_at_once:.2f}"],
        ["start, once: workers, imports, compiling, s", f"{found.start_s:.1f}"],
        [f"time of {found.models} models over that of one", f"{found.many_over_one:.2f}"],
        ["... from the first answers to the last", f"{found.sustained_many_over_one:.2f}"],
    ]
    out.print(table(f"{found.faces} faces x {found.levels} corruptions", ["", "measured"], rows))
