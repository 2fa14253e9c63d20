"""``agesearch publish`` and ``agesearch models``: put a student into the registry, and see what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agesearch.cli.common import JsonOption, err, out, print_json, shown_progress, table

if TYPE_CHECKING:
    from agesearch.deploy.publish import Published
    from agesearch.deploy.registry import Registry, Version

RegistryOption = Annotated[
    str,
    typer.Option("--registry", envvar="AGESEARCH_REGISTRY", help="Folder or URI of the registry."),
]

_PUBLISH_EXAMPLE = "Example: agesearch publish studies/first --pick knee --name ages"
_MODELS_EXAMPLE = "Example: agesearch models ages"


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("publish", rich_help_panel="Results", epilog=_PUBLISH_EXAMPLE)(publish)
    app.command("models", rich_help_panel="Results", epilog=_MODELS_EXAMPLE)(models)


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
    json_output: JsonOption = False,
) -> None:
    """Export a student to ONNX, prove that it answers as trained, and publish it as an immutable version.

    What its card says and is not known yet is measured first, as 'agesearch report' does: speed beside the
    teacher, accuracy, robustness.
    """
    from agesearch.deploy.publish import publish as publish_model

    with shown_progress() as on_progress:
        published = publish_model(
            source,
            name,
            registry,
            pick=pick,
            dataset=data,
            teacher=teacher,
            alias=alias,
            on_progress=on_progress,
        )
    if json_output:
        print_json(_published_json(published))
        return
    version, parity = published.version, published.parity
    state = "Published" if published.is_new else "Already in the registry, unchanged:"
    out.print(f"{state} {version.label}, {alias} now points to {published.alias.version}.", highlight=False)
    _line(f"  files   {version.folder}")
    if parity:
        _line(
            f"  parity  ONNX against torch on {parity['faces']} faces: ages differ by at most "
            f"{parity['age_max_difference_years']:.2g} years (allowed: {parity['age_tolerance_years']:g})"
        )
    err.print(f"Next: agesearch serve {name}{_registry_hint(registry)}", highlight=False, markup=False)


def models(
    name: Annotated[str | None, typer.Argument(help="A model; without one, all are listed.")] = None,
    registry: RegistryOption = "registry",
    json_output: JsonOption = False,
) -> None:
    """List the models of a registry, or the versions and alias moves of one."""
    from agesearch.deploy.registry import Registry

    store = Registry(registry)
    if name is None:
        _list_names(store, json_output)
    else:
        _list_versions(store, name, json_output)


def _list_names(store: Registry, json_output: bool) -> None:
    from agesearch.deploy.registry import CHAMPION

    rows = []
    for name in store.names():
        versions = store.versions(name)
        pointed = {alias.alias: alias.version for alias in store.aliases(name)}
        rows.append({"name": name, "versions": len(versions), "champion": pointed.get(CHAMPION)})
    if json_output:
        print_json(rows)
    elif not rows:
        err.print(f"The registry '{store.root}' has no model yet.", highlight=False, markup=False)
    else:
        cells = [[str(row["name"]), str(row["versions"]), str(row["champion"] or "-")] for row in rows]
        out.print(table(f"Models in {store.root}", ["model", "versions", "champion"], cells))


def _list_versions(store: Registry, name: str, json_output: bool) -> None:
    versions = store.versions(name)
    aliases = store.aliases(name)
    if json_output:
        print_json(
            {
                "name": name,
                "versions": [_version_json(version) for version in versions],
                "aliases": [alias.model_dump(mode="json", by_alias=True) for alias in aliases],
            }
        )
        return
    columns = ["version", "aliases", "network", "px", "val MAE, years", "published"]
    out.print(table(f"Versions of {name}", columns, [_version_cells(version) for version in versions]))
    for alias in aliases:
        for move in alias.history:
            _line(f"{move.when}  {alias.alias}: {move.source or 'nothing'} -> {move.target}, by {move.who}")


def _version_cells(version: Version) -> list[str]:
    from agesearch.metrics import VAL_MAE_YEARS

    manifest = version.manifest()
    error = manifest.metrics.get(VAL_MAE_YEARS)
    low, high = manifest.intervals.get(VAL_MAE_YEARS, (None, None))
    interval = f" ({low:.2f}-{high:.2f})" if low is not None and high is not None else ""
    return [
        version.number,
        ", ".join(version.aliases),
        manifest.model.arch,
        str(manifest.model.input_size),
        f"{error:.2f}{interval}" if error is not None else "-",
        manifest.created[:10],
    ]


def _version_json(version: Version) -> dict[str, Any]:
    return {
        "version": version.number,
        "aliases": list(version.aliases),
        "folder": str(version.folder),
        "manifest": version.manifest().model_dump(mode="json"),
    }


def _published_json(published: Published) -> dict[str, Any]:
    return {
        "name": published.version.name,
        "version": published.version.number,
        "folder": str(published.version.folder),
        "is_new": published.is_new,
        "alias": published.alias.alias,
        "parity": published.parity,
    }


def _registry_hint(registry: str) -> str:
    return "" if registry == "registry" else f" --registry {registry}"


def _line(text: str) -> None:
    out.print(text, highlight=False, markup=False, soft_wrap=True)
