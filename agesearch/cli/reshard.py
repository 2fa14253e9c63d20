"""``agesearch data reshard``: mix the rows of a dataset that lie in the order of its source."""

from __future__ import annotations

from typing import Annotated

import typer

from agesearch.cli.common import PLAIN, JsonOption, err, print_json, shown_progress

_EXAMPLE = "Example: agesearch data reshard faces"


def add_to(app: typer.Typer) -> None:
    """Register ``reshard`` in the group ``data``."""
    app.command("reshard", epilog=_EXAMPLE)(reshard)


def reshard(
    dataset: Annotated[str, typer.Argument(help="Dataset folder or URI.")],
    out_folder: Annotated[
        str | None, typer.Option("--out", help="Write a copy here, and leave the dataset as it is.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="With --out: make an existing dataset anew.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Mix the rows of a dataset made before datasets were mixed, so that any run of shards is a fair sample.

    Every dataset that is made now is mixed already. Faces, splits and digests stay, so studies and ingests go
    on; stored targets of teachers follow. A run that was killed is run again. Needs room for one copy more.
    """
    from agesearch.data.reshard import reshard as run_reshard
    from agesearch.errors import InputError

    if replace and out_folder is None:
        raise InputError("--replace is about the folder of --out, which is not given.")
    with shown_progress() as on_progress:
        manifest, is_new = run_reshard(dataset, out_folder, replace=replace, on_progress=on_progress)
    place = out_folder or dataset
    if as_json:
        print_json({"out": place, "is_new": is_new, "manifest": manifest.model_dump(mode="json")})
        return
    state = "is mixed now" if is_new else "is mixed already, nothing to do"
    shards = "1 shard" if manifest.hash_shards == 1 else f"{manifest.hash_shards} shards"
    err.print(f"{place} {state}: {manifest.faces} faces in {shards}.", **PLAIN)
