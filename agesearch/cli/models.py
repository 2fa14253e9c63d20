"""``agesearch models``: the versions of a registry, how they compare, and where its aliases point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from agesearch.cli import signing
from agesearch.cli.common import JsonOption, out, print_json, say, shown_progress, table
from agesearch.cli.publish import RegistryOption, comparison_lines, megabytes, registry_words
from agesearch.errors import InputError, command

if TYPE_CHECKING:
    from agesearch.deploy.aliases import Alias
    from agesearch.deploy.registry import Registry, Version

_EXAMPLE = "Example: agesearch models ages"
_SHOW = "show"


class _Verbs(TyperGroup):
    """``models NAME`` is short for ``models show NAME``."""

    default = _SHOW

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        if not args or args[0] not in (*self.commands, "--help", "-h"):
            args = [self.default, *args]
        return super().parse_args(ctx, args)


def add_to(app: typer.Typer) -> None:
    """Register the group ``models``."""
    group = typer.Typer(cls=_Verbs, help="List published models, compare, move an alias, sign.")
    group.command(_SHOW, epilog=_EXAMPLE)(show)
    group.command("compare", epilog="Example: agesearch models compare ages:1 ages:2 --data faces")(compare)
    group.command("move", epilog="Example: agesearch models move ages champion 1")(move)
    group.command("drop", epilog="Example: agesearch models drop ages candidate")(drop)
    signing.add_to(group)
    app.add_typer(group, name="models", rich_help_panel="Results", epilog=_EXAMPLE)


def show(
    name: Annotated[str | None, typer.Argument(help="A model; without one, all are listed.")] = None,
    registry: RegistryOption = "registry",
    json_output: JsonOption = False,
) -> None:
    """List the models of a registry, or the versions and alias moves of one ('models NAME' does so, too)."""
    from agesearch.deploy.registry import Registry

    store = Registry(registry)
    if name is None:
        _list_names(store, json_output)
    else:
        _list_versions(store.holder(name), name, json_output)


def compare(
    old: Annotated[str, typer.Argument(metavar="OLD", help="NAME:VERSION, NAME@ALIAS or NAME.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="NAME:VERSION, NAME@ALIAS or NAME.")],
    data: Annotated[
        str | None, typer.Option("--data", help="Dataset to take the errors on; without, speed and size.")
    ] = None,
    registry: RegistryOption = "registry",
    json_output: JsonOption = False,
) -> None:
    """Compare two versions: errors on the same faces with an interval, latency timed in turns, size."""
    from agesearch.deploy.comparison import compare_versions
    from agesearch.deploy.registry import Registry

    store = Registry(registry)
    before, after = store.find(old), store.find(new)
    with shown_progress() as on_progress:
        found = compare_versions(before, after, data, on_progress=on_progress)
    if json_output:
        print_json(found.as_json())
        return
    _line(f"{found.new} beside {found.old}:")
    for line in comparison_lines(found):
        _line(f"  {line}")


def move(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the model.")],
    alias: Annotated[str, typer.Argument(metavar="ALIAS", help="The alias, such as champion.")],
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Number of the version.")],
    registry: RegistryOption = "registry",
    json_output: JsonOption = False,
) -> None:
    """Point an alias at a version, back to an old one or on to a new one. Services that follow it change."""
    from agesearch.deploy.integrity import verify
    from agesearch.deploy.registry import Registry

    store = Registry(registry)
    found = store.own(store.find(f"{name}:{version}"))
    verify(found.folder)
    with store.locked(name):
        before = store.alias(name, alias).version
        moved = store.move_alias(found, alias)
    _tell_move(moved, before, json_output)
    if not json_output:
        say(f"Next: {command('serve', f'{name}@{alias}', *registry_words(registry))}")


def drop(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the model.")],
    alias: Annotated[str, typer.Argument(metavar="ALIAS", help="The alias.")],
    registry: RegistryOption = "registry",
    json_output: JsonOption = False,
) -> None:
    """Let an alias point nowhere. The versions stay, and so does the alias's history."""
    from agesearch.deploy.registry import Registry

    store = Registry(registry)
    store.versions(name)
    with store.locked(name):
        before = store.alias(name, alias).version
        dropped = store.drop_alias(name, alias)
    _tell_move(dropped, before, json_output)


def _tell_move(alias: Alias, before: str | None, json_output: bool) -> None:
    if json_output:
        print_json(alias.model_dump(mode="json", by_alias=True) | {"previous": before})
    elif before == alias.version:
        _line(f"{alias.alias} points to {before} already.")
    else:
        now = alias.version or "nothing"
        _line(f"{alias.alias} pointed to {before or 'nothing'} and now points to {now}.")


def _list_names(store: Registry, json_output: bool) -> None:
    from agesearch.deploy.registry import CHAMPION

    rows, faults = [], []
    for name in store.known_names():
        try:
            holder = store.holder(name)
            versions = holder.versions(name)
        except InputError as error:
            faults.append(f"{name}: {error}")
            continue
        pointed = {alias.alias: alias.version for alias in holder.aliases(name)}
        found = {"name": name, "versions": len(versions), "champion": pointed.get(CHAMPION)}
        rows.append(found | {"place": "registry" if holder is store else "package"})
        faults += holder.faults(name)
    if json_output:
        print_json(rows)
    else:
        cells = [[str(cell or "-") for cell in row.values()] for row in rows]
        out.print(table("Models", ["model", "versions", "champion", "comes with"], cells))
        if not store.names():
            say(f"The registry '{store.root}' has no model yet: 'agesearch publish' puts a study's there.")
    _require_none(faults)


def _list_versions(store: Registry, name: str, json_output: bool) -> None:
    versions, aliases, faults = store.versions(name), store.aliases(name), store.faults(name)
    if json_output:
        print_json(
            {
                "name": name,
                "versions": [_version_json(version) for version in versions],
                "aliases": [alias.model_dump(mode="json", by_alias=True) for alias in aliases],
            }
        )
    else:
        _print_versions(name, versions, aliases)
    _require_none(faults)


def _require_none(faults: list[str]) -> None:
    """End with an error of input, after what can be read was shown."""
    if faults:
        more = f" ({len(faults) - 1} more like it)" if len(faults) > 1 else ""
        raise InputError(f"{faults[0]}{more}")


def _print_versions(name: str, versions: list[Version], aliases: list[Alias]) -> None:
    split = _shared_split(versions)
    columns = ["version", "aliases", f"{split} MAE, years", "ms", "MB", "network", "published"]
    rows = [_version_cells(version, split) for version in versions]
    out.print(table(f"Versions of {name}", columns, rows, optional=["aliases", "MB", "network", "published"]))
    say(
        "ms: the network alone, one face on one thread, timed when the version was published. Two versions "
        f"are compared by: {command('models', 'compare', *_last_two(versions))}"
    )
    for alias in aliases:
        for moved in alias.history:
            source, target = moved.source or "nothing", moved.target or "nothing"
            step = "" if moved.step == "move" else f" ({moved.step})"
            why = f": {moved.why}" if moved.why else ""
            _line(f"{moved.when}  {alias.alias}: {source} -> {target}{step}, by {moved.who}{why}")


def _last_two(versions: list[Version]) -> list[str]:
    labels = [version.label for version in versions[-2:]]
    return labels if len(labels) == 2 else [labels[0], "OTHER"]


def _shared_split(versions: list[Version]) -> str:
    """The split whose errors are shown: the one that proves most of those that every version has."""
    from agesearch.metrics import MAE_YEARS, on_split

    known = [version.manifest().metrics for version in versions if version.fault is None]
    return "test" if all(on_split("test", MAE_YEARS) in metrics for metrics in known) else "val"


def _version_cells(version: Version, split: str) -> list[str]:
    from agesearch.metrics import MAE_YEARS, on_split

    if version.fault is not None:
        return [version.number, ", ".join(version.aliases), "unreadable", *"----"]
    manifest, metric = version.manifest(), on_split(split, MAE_YEARS)
    error = manifest.metrics.get(metric)
    low, high = manifest.intervals.get(metric, (None, None))
    interval = f" ({low:.2f}-{high:.2f})" if low is not None and high is not None else ""
    latency, size = manifest.latency_ms, version.size_bytes
    return [
        version.number,
        ", ".join(version.aliases),
        f"{error:.2f}{interval}" if error is not None else "-",
        f"{latency:.3g}" if latency is not None else "-",
        megabytes(size) if size is not None else "-",
        f"{manifest.model.arch} {manifest.model.input_size} px",
        manifest.created[:10],
    ]


def _version_json(version: Version) -> dict[str, Any]:
    from agesearch.deploy.integrity import SIGNATURE

    manifest = version.manifest() if version.fault is None else None
    return {
        "version": version.number,
        "aliases": list(version.aliases),
        "folder": str(version.folder),
        "latency_ms_p50": manifest.latency_ms if manifest else None,
        "size_bytes": version.size_bytes,
        "signed": (version.folder / SIGNATURE).exists(),
        "manifest": manifest.model_dump(mode="json") if manifest else None,
        "fault": version.fault,
    }


def _line(text: str) -> None:
    out.print(text, highlight=False, markup=False, soft_wrap=True)
