"""``agesearch bench search --race``: a study and a careful loop by the clock on the wall."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agesearch.cli.common import err, out, print_json, shown_progress, table

if TYPE_CHECKING:
    from agesearch.bench.wallclock.run import Heat, WallClock
    from agesearch.bench.wallclock.spent import Spent


def race_to_one_volume(
    data: str | None, teacher: str | None, trials: int, epochs: int, seeds: int, as_json: bool
) -> None:
    """Race, and tell what each side spent its time on."""
    from agesearch.bench.overhead import bench_faces
    from agesearch.bench.wallclock.run import race_wall_clock
    from agesearch.storage import Location

    with shown_progress() as listener, bench_faces(None if data is None else Location.of(data)) as faces:
        found = race_wall_clock(
            faces,
            None if teacher is None else Location.of(teacher),
            trials=trials,
            epochs=epochs,
            seeds=seeds,
            on_progress=listener,
        )
    if as_json:
        print_json(found.as_json())
    else:
        _tell(found)


def _tell(found: WallClock) -> None:
    rows = [row for heat in found.heats for row in _rows(heat)]
    title = (
        f"{found.trials} trials of {found.epochs} epochs, {found.cores} cores: {found.ratio:.2f} x the loop"
    )
    columns = ["seed", "search", "to the same front, s", "in all, s", "start, s", "training, slot s"]
    columns += ["suggesting, s", "other, slot s", "epochs", "stopped"]
    out.print(table(title, columns, rows), highlight=False)
    err.print(
        "to the same front: until the front has 95 % of the hypervolume that both end with, counted from the "
        "call. slot s: of all cores together. other: handing over, recording, waiting, idle at the end, and "
        "suggesting where it is not known apart.",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _rows(heat: Heat) -> list[list[str]]:
    seed = str(heat.seed)
    return [
        [seed, "study", f"{heat.ours_s:.1f}", *_spent(heat.ours)],
        [seed, "careful loop", f"{heat.loop_s:.1f}", *_spent(heat.loop)],
    ]


def _spent(search: Spent) -> list[str]:
    suggesting = "–" if search.suggesting_s is None else f"{search.suggesting_s:.1f}"
    times = [search.seconds, search.start_s, search.training_s]
    return [
        *(f"{seconds:.1f}" for seconds in times),
        suggesting,
        f"{search.other_s:.1f}",
        str(search.epochs),
        str(search.stopped),
    ]
