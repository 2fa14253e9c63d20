"""``agesearch replay``: compare search strategies on recorded learning curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agesearch.cli.common import JsonOption, err, out, print_json, shown_progress, table

if TYPE_CHECKING:
    from agesearch.search.replay.summary import Comparison, Row

_EXAMPLE = (
    "Example: agesearch replay studies/first --strategies random,ehvi-rungs --seeds 20 --page replay.html"
)


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("replay", rich_help_panel="Search", epilog=_EXAMPLE)(replay)


def replay(
    record: Annotated[
        str, typer.Argument(metavar="RECORD", help="Study folder, or a table that --save wrote.")
    ],
    strategies: Annotated[
        str,
        typer.Option(
            "--strategies",
            help="With commas: default (what tune does); random, tpe, ehvi, each also with '-rungs'; "
            "ehvi-pausing; ehvi-pausing-nearest, which chooses as its rivals do; optuna-tpe; moasha, "
            "moasha-ours, moasha-ranked, moasha-ranked-ours (extra 'bench').",
        ),
    ] = "default,random,optuna-tpe,ehvi-pausing-nearest",
    seeds: Annotated[int, typer.Option("--seeds", help="Runs of each strategy.")] = 20,
    slots: Annotated[int, typer.Option("--slots", help="Trials that train at once.")] = 4,
    svg: Annotated[str | None, typer.Option("--svg", help="Draw hypervolume against epochs here.")] = None,
    page: Annotated[
        str | None, typer.Option("--page", metavar="FILE.html", help="Chart and figures as one page.")
    ] = None,
    save: Annotated[
        str | None, typer.Option("--save", metavar="FILE.parquet", help="Keep the record as one table.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare search strategies on the learning curves of trials that were trained already.

    The sampling and the early stopping are those of a real search, on a simulated clock; nothing trains.
    Counted are the epochs that a strategy spends until its front has 95 % of the hypervolume that random
    search ends with.
    """
    from agesearch.artefacts import own_page
    from agesearch.search.replay.curve_table import as_table, read_record
    from agesearch.search.replay.summary import compare
    from agesearch.storage import Location

    known = read_record(record)
    place = None if page is None else own_page(page)
    if save is not None:
        Location.of(save).write_table(as_table(known))
    names = [name.strip() for name in strategies.split(",") if name.strip()]
    with shown_progress() as listener:
        found = compare(known, names, seeds=seeds, slots=slots, on_progress=listener)
    if svg is not None:
        from agesearch.reporting.replays import write_replay_figure

        write_replay_figure(found, Location.of(svg))
    if place is not None:
        from agesearch.reporting.replays import write_replay_page

        write_replay_page(found, place, record)
    if as_json:
        print_json(found.as_json())
    else:
        _print(found)


def _print(found: Comparison) -> None:
    columns = ["strategy", "epochs to 95 %", "10-90 % of seeds", "of random's", "seeds", "stopped", "final"]
    out.print(
        table(
            f"{found.configurations} configurations, {found.budget:,} epochs in all, {found.slots} at once",
            columns,
            [_cells(row) for row in found.rows],
        ),
        highlight=False,
    )
    left = f"; {found.left_out} trials without a whole curve are left out" if found.left_out else ""
    err.print(
        "epochs: median of the seeds until 95 % of random search's final hypervolume (reference "
        f"{found.reference[0]:.2f} years, {found.reference[1]:.2f} ms). seeds: that got there. stopped: "
        f"trials ended early, median. final: share of the record's hypervolume at the end, median{left}.",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _cells(row: Row) -> list[str]:
    unknown = "–"
    spread = unknown if row.low is None or row.high is None else f"{row.low:,.0f}-{row.high:,.0f}"
    return [
        row.strategy,
        unknown if row.epochs is None else f"{row.epochs:,.0f}",
        spread,
        unknown if row.share_of_random is None else f"{row.share_of_random:.0%}",
        f"{row.reached}/{row.seeds}",
        f"{row.stopped:g}",
        f"{row.final_share:.1%}",
    ]
