"""``agesearch replay``: compare search strategies on recorded learning curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agesearch.cli.common import JsonOption, err, out, print_json, say, separated, shown_progress, table

if TYPE_CHECKING:
    from agesearch.search.replay.summary import Comparison, Row
    from agesearch.search.replay.tables import HeldOut, Overall, Spread

_EXAMPLE = (
    "Example: agesearch replay studies/first --strategies random,ehvi-rungs --seeds 20 --page replay.html"
)


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("replay", rich_help_panel="Search", epilog=_EXAMPLE)(replay)


def replay(
    record: Annotated[
        list[str],
        typer.Argument(
            metavar="RECORD...", help="Study folders, or tables that --save or 'bench record' wrote."
        ),
    ],
    strategies: Annotated[
        str,
        typer.Option(
            "--strategies",
            help="With commas: default (what tune does), default-seconds (with 'charge: seconds'), "
            "ehvi-nearest (default, nothing stopped); random, tpe, ehvi, each also with '-rungs'; "
            "random-stops; ehvi-pausing; ehvi-pausing-nearest, which chooses as its rivals do; optuna-tpe, "
            "optuna-gp, each also with '-latency' and '-pruned'; optuna-nsga2, optuna-nsga2-16; moasha, "
            "moasha-ours, moasha-ranked, moasha-ranked-ours, mo-rea, mo-rea-16, mo-rea-16-latency (extra "
            "'bench').",
        ),
    ] = "default,random,optuna-tpe,ehvi-pausing-nearest",
    seeds: Annotated[int, typer.Option("--seeds", help="Runs of each strategy.")] = 20,
    slots: Annotated[int, typer.Option("--slots", help="Trials that train at once.")] = 4,
    choose: Annotated[
        str,
        typer.Option(
            "--choose",
            help="With commas, some of the strategies: the one that is best on all tables but one is judged "
            "on that one, for each table.",
        ),
    ] = "",
    left_out: Annotated[
        bool,
        typer.Option(
            "--left-out",
            help="What our sampler expects of each table's errors beforehand is learnt from the other tables "
            "given (default: as it comes, learnt from those of reports/search).",
        ),
    ] = False,
    processes: Annotated[int, typer.Option("--processes", help="Replays that run at once.")] = 1,
    svg: Annotated[
        str | None,
        typer.Option(
            "--svg", help="Draw hypervolume against epochs here, and against seconds in NAME-seconds.svg."
        ),
    ] = None,
    page: Annotated[
        str | None, typer.Option("--page", metavar="FILE.html", help="Charts and figures as one page.")
    ] = None,
    save: Annotated[
        str | None, typer.Option("--save", metavar="FILE.parquet", help="Keep the one record as a table.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare search strategies on the learning curves of trials that were trained already.

    The sampling and the early stopping are those of a real search, on a simulated clock; nothing trains.
    Counted are the epochs and the seconds that a strategy spends until its front has 95 % of the hypervolume
    that random search ends with. Of several records each is told, and the median and the worst of all.
    """
    from agesearch.artefacts import own_page
    from agesearch.errors import InputError
    from agesearch.search.replay.curve_table import as_table, read_record
    from agesearch.search.replay.summary import compare
    from agesearch.search.replay.tables import leave_one_out, left_out_priors, overall
    from agesearch.storage import Location, distinct_names

    if save is not None and len(record) > 1:
        raise InputError(f"--save keeps one record, but {len(record)} are given.")
    known = [read_record(where) for where in record]
    if left_out:
        known = left_out_priors(known)
    place = None if page is None else own_page(page)
    if save is not None:
        Location.of(save).write_table(as_table(known[0]))
    names, candidates = _here(list(separated(strategies))), separated(choose)
    found = []
    with shown_progress() as listener:
        for title, one in zip(distinct_names([Location.of(r) for r in record]), known, strict=True):
            found.append(
                compare(
                    one,
                    names,
                    seeds=seeds,
                    slots=slots,
                    table=title,
                    processes=processes,
                    on_progress=listener,
                )
            )
    held_out = leave_one_out(found, candidates) if candidates else []
    over_all = overall(found) if len(found) > 1 else []
    if svg is not None:
        from agesearch.reporting.replays import write_replay_figures

        write_replay_figures(found, Location.of(svg))
    if place is not None:
        from agesearch.reporting.replays import write_replay_page

        write_replay_page(found, place, held_out)
    if as_json:
        print_json(_json(found, over_all, held_out))
    else:
        _print(found, over_all, held_out)


def _here(names: list[str]) -> list[str]:
    """Those whose packages are installed; the others are told in a line each. All are kept where none is."""
    from agesearch.search.replay.strategies import made

    absent = [name for name in names if not made(name).is_here]
    if len(absent) == len(names):
        return names  # then the first of them says what to install
    for name in absent:
        say(f"{name} is left out: '{made(name).package}' is not installed (agesearch's extra 'bench').")
    return [name for name in names if name not in absent]


def _json(found: list[Comparison], over_all: list[Overall], held_out: list[HeldOut]) -> dict[str, Any]:
    """One record's comparison as it is; of several, each of them and what holds over all."""
    if not over_all:
        return found[0].as_json()
    return {
        "tables": [one.as_json() for one in found],
        "over_all": [row.as_json() for row in over_all],
        "left_out": [choice.as_json() for choice in held_out],
    }


def _print(found: list[Comparison], over_all: list[Overall], held_out: list[HeldOut]) -> None:
    for one in found:
        _print_table(one)
    if over_all:
        columns = ["strategy", "of random's epochs", "of TPE's", "of random's seconds", "of TPE's"]
        rows = [_overall_cells(row) for row in over_all]
        title = f"All {len(found)} tables: median (worst)"
        out.print(table(title, [*columns, "seeds", "final"], rows), highlight=False)
    if held_out:
        rows = [
            [choice.table, choice.chosen, _share(choice.row.epochs.of_random), *_ends(choice.row)]
            for choice in held_out
        ]
        columns = ["table", "chosen on the others", "of random's epochs", "seeds", "final"]
        out.print(table("Chosen on all tables but one, judged on that one", columns, rows), highlight=False)
    left_out = sum(one.left_out for one in found)
    left = f"; {left_out} trials without a whole curve are left out" if left_out else ""
    err.print(
        "epochs, seconds: spent by all trials together, median of the seeds until 95 % of random search's "
        "final hypervolume. of random's: of what that spends in all. seeds: that got there. stopped: trials "
        "ended early, median. final: share of the record's hypervolume at the end, median. *: scores the "
        f"record's rows, which no real search can{left}.",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _print_table(found: Comparison) -> None:
    columns = ["strategy", "epochs to 95 %", "10-90 % of seeds", "of random's", "of TPE's"]
    timed = bool(found.budget_s)
    if timed:
        columns += ["seconds to 95 %", "of random's", "of TPE's"]
    reference = f"{found.reference[0]:.2f} years, {found.reference[1]:.2f} ms"
    seconds = f", {found.budget_s:,.0f} s" if timed else ""
    out.print(
        table(
            f"{found.table}: {found.configurations} configurations, {found.budget:,} epochs{seconds} in all, "
            f"{found.slots} at once; reference {reference}",
            [*columns, "seeds", "stopped", "final"],
            [_cells(row) for row in found.rows],
        ),
        highlight=False,
    )


def _cells(row: Row) -> list[str]:
    low, high = row.epochs.low, row.epochs.high
    spread = _UNKNOWN if low is None or high is None else f"{low:,.0f}-{high:,.0f}"
    cells = [_named(row.strategy), _count(row.epochs.middle), spread]
    cells += [_share(row.epochs.of_random), _share(row.epochs.of_tpe)]
    if row.seconds is not None:
        cells += [_count(row.seconds.middle), _share(row.seconds.of_random), _share(row.seconds.of_tpe)]
    reached, final = _ends(row)
    return [*cells, reached, f"{row.stopped:g}", final]


def _overall_cells(row: Overall) -> list[str]:
    costs = [row.of_random, row.of_tpe, row.of_random_s, row.of_tpe_s]
    return [_named(row.strategy), *map(_spread, costs), _spread(row.reached), _spread(row.final, 1)]


def _ends(row: Row) -> tuple[str, str]:
    return f"{row.reached}/{row.seeds}", f"{row.final_share:.1%}"


def _spread(found: Spread, digits: int = 0) -> str:
    if not found.tables:
        return _UNKNOWN
    return f"{_share(found.median, digits)} ({_share(found.worst, digits)})"


def _named(strategy: str) -> str:
    from agesearch.search.replay.strategies import made

    return f"{strategy} *" if made(strategy).scores_rows else strategy


_UNKNOWN = "–"


def _share(value: float | None, digits: int = 0) -> str:
    return _UNKNOWN if value is None else f"{value:.{digits}%}"


def _count(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:,.0f}"
