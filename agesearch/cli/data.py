"""``agesearch data``: ingest photographs, render faces, list readers, look into a dataset."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from agesearch.cli import augment, check, mix, reshard, synth
from agesearch.cli.common import PLAIN, AddressOption, JsonOption, err, out, print_json, shown_progress, table
from agesearch.cli.dataset_notes import tell_empty_splits, tell_next, tell_notes, tell_order
from agesearch.errors import InputError

if TYPE_CHECKING:
    from agesearch.data.audit.card_data import Inspection
    from agesearch.data.dataset.records import Manifest
    from agesearch.data.sources import Source

_SPLITS = ("train", "val", "test")
#: Names and paths of a source are printed as they are, on one line.

_REMEDY = (
    "A source that names its own splits keeps them; others are split by --val and --test, by subject: give "
    "other shares, with --replace, or add faces with 'agesearch data mix'."
)
_LIST_EXAMPLE = "Example: agesearch data list adience"
_INSPECT_EXAMPLE = "Example: agesearch data inspect faces/photos --html photos.html"
_INGEST_EXAMPLE = (
    "Example: agesearch data ingest csv portraits.csv --images photos/ --column age=years --out faces"
)


def add_to(app: typer.Typer) -> None:
    """Register the group ``data``."""
    data_app = typer.Typer(no_args_is_help=True, help="Make datasets of faces and look into them.")
    data_app.command("ingest", epilog=_INGEST_EXAMPLE)(ingest)
    synth.add_to(data_app)
    mix.add_to(data_app)
    augment.add_to(data_app)
    check.add_to(data_app)
    reshard.add_to(data_app)
    data_app.command("inspect", epilog=_INSPECT_EXAMPLE)(inspect)
    data_app.command("list", epilog=_LIST_EXAMPLE)(list_sources)
    app.add_typer(data_app, name="data", rich_help_panel="Data")


def ingest(
    source: Annotated[
        str, typer.Argument(help="Reader: csv, folder, utkface, ... (see 'agesearch data list').")
    ],
    path: Annotated[str, typer.Argument(help="What the reader reads: a file, a folder or a URI.")],
    out_folder: Annotated[str, typer.Option("--out", help="Dataset folder or URI to write.")],
    images: Annotated[
        str | None, typer.Option("--images", help="Folder that image paths are relative to.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="FIELD=NAME", help="The source's column for a field; repeatable."),
    ] = None,
    detector: Annotated[
        str, typer.Option("--detector", help="auto, yuface, yunet, yunet:FILE.onnx, or none (crops already).")
    ] = "auto",
    scale: Annotated[float, typer.Option("--scale", help="Crop side over the face box's longer side.")] = 1.3,
    size: Annotated[int, typer.Option("--size", help="Crop side in pixels.")] = 112,
    align: Annotated[bool, typer.Option("--align/--no-align", help="Turn the eyes level.")] = True,
    val: Annotated[float, typer.Option("--val", help="Share of subjects for validation.")] = 0.15,
    test: Annotated[float, typer.Option("--test", help="Share of subjects for the test.")] = 0.15,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the split.")] = 0,
    unlabelled: Annotated[bool, typer.Option("--unlabelled", help="Take rows without an age too.")] = False,
    variant: Annotated[
        str | None, typer.Option("--variant", help="Which of the reader's variants (see 'data list').")
    ] = None,
    label_kind: Annotated[
        str | None,
        typer.Option("--label-kind", help="real, apparent, teacher, group (default: the reader's)."),
    ] = None,
    licence: Annotated[str | None, typer.Option("--licence", help="Licence note for the manifest.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Make an existing dataset anew.")] = False,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Turn photographs with ages into a dataset of aligned face crops, split by subject.

    What cannot be used goes to quarantine.parquet with its reason. A second run works only on what is new or
    changed in the source, and a run that was stopped or killed goes on where it was.
    """
    from agesearch.api.ingest import ingest as run_ingest
    from agesearch.data.sources import source_named

    with shown_progress() as on_progress:
        done = run_ingest(
            source,
            path,
            out=out_folder,
            images=images,
            column=_columns(column or []),
            detector=detector,
            scale=scale,
            size=size,
            align=align,
            val=val,
            test=test,
            seed=seed,
            unlabelled=unlabelled,
            variant=variant,
            label_kind=label_kind,
            licence=licence,
            replace=replace,
            address=address,
            on_progress=on_progress,
        )
    if as_json:
        manifest = done.manifest.model_dump(mode="json")
        changes = asdict(done.changes)
        told = {"is_new": done.is_new, "changes": changes, "left_out_nodes": done.left_out_nodes}
        print_json({"out": out_folder, **told, "manifest": manifest})
    else:
        _tell_ingested(out_folder, done.manifest, is_new=done.is_new)
        shown = ", ".join(f"{count} {name}" for name, count in asdict(done.changes).items())
        err.print(f"Records of the source: {shown}.", **PLAIN)
    usual = source_named(source).notes
    tell_notes(note for note in (*done.left_out_nodes, *done.manifest.notes) if note not in usual)
    tell_empty_splits(done.manifest.counts, _REMEDY)
    if not as_json:
        tell_next(out_folder, done.manifest)


def inspect(
    dataset: Annotated[str, typer.Argument(help="Dataset folder or URI.")],
    html: Annotated[
        str | None, typer.Option("--html", help="Write a data card with a contact sheet to this file.")
    ] = None,
    show_left_out: Annotated[
        bool,
        typer.Option("--show-left-out", help="Put left-out pictures on the card (opens their files)."),
    ] = False,
    croissant: Annotated[
        bool, typer.Option("--croissant", help="Write the card for machines into it: croissant.json.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a dataset's counts, ages, splits and what was left out."""
    from agesearch.data.audit.card_data import inspect_dataset

    with shown_progress() as on_progress:
        if html is None:
            found = inspect_dataset(dataset, on_progress)
        else:
            from agesearch.artefacts import own_page
            from agesearch.reporting.datacard import write_datacard

            found = write_datacard(
                dataset, own_page(html), show_left_out=show_left_out, on_progress=on_progress
            )
    if html is not None:
        err.print(f"Data card written: {html}", **PLAIN)
    if croissant:
        from agesearch.data.audit.croissant import write_croissant

        err.print(f"Card for machines (Croissant 1.1) written: {write_croissant(found)}", **PLAIN)
    if as_json:
        print_json(found.document())
    else:
        _tell_inspection(found)
    tell_order(dataset)


def list_sources(
    name: Annotated[
        str | None, typer.Argument(help="Tell all about this reader (default: list all).")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the readers: kinds of labels, variants, identities, licences; of one, its layout and notes too."""
    from agesearch.data.sources import SOURCES, source_named

    chosen = SOURCES if name is None else {name: source_named(name)}
    if as_json:
        print_json({known: row.document() for known, row in chosen.items()})
    elif name is not None:
        _tell_source(name, chosen[name])
    else:
        columns = ["name", "labels", "variants", "identities", "licence"]
        rows = [
            [known, row.label_kind, ", ".join(row.variants), row.identities, row.licence]
            for known, row in chosen.items()
        ]
        out.print(table("readers", columns, rows))
        out.print("What one reads from disk, and its variants: agesearch data list NAME", **PLAIN)


def _tell_source(name: str, row: Source) -> None:
    facts = [
        ("reader", name),
        ("layout", row.layout),
        ("labels", row.label_kind),
        ("identities", row.identities),
        ("licence", row.licence),
        *(
            (f"--variant {variant}", f"{about.about} (labels: {row.kind_of(variant)})")
            for variant, about in row.variants.items()
        ),
        *(("note", note) for note in row.notes),
    ]
    width = max(len(title) for title, _ in facts)
    for title, value in facts:
        out.print(f"{title:{width}}  {value}", **PLAIN)


def _columns(written: list[str]) -> dict[str, str]:
    columns = {}
    for pair in written:
        field, equals, name = pair.partition("=")
        if not equals or not field or not name:
            raise InputError(f"--column is '{pair}', but must be FIELD=NAME, such as age=years.")
        columns[field] = name
    return columns


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{value} {count}" for value, count in list(counts.items())[:8])


def _tell_ingested(out_folder: str, manifest: Manifest, *, is_new: bool) -> None:
    state = "made:" if is_new else "is up to date, nothing to do:"
    counts = ", ".join(f"{name} {manifest.counts.get(name, 0)}" for name in _SPLITS)
    labels = f"labels: {manifest.label_kind}"
    subjects = f"{manifest.subjects} subjects" if manifest.subjects else "subjects unknown"
    err.print(f"{out_folder} {state} {manifest.faces} faces ({counts}), {subjects}, {labels}.", **PLAIN)
    if manifest.left_out:
        shown = ", ".join(f"{reason} {count}" for reason, count in manifest.left_out.items())
        err.print(f"Left out, see quarantine.parquet: {shown}.", **PLAIN)


def _tell_inspection(found: Inspection) -> None:
    manifest = found.manifest
    rows = [
        [decade, *(str(counts[split]) for split in _SPLITS), str(sum(counts.values()))]
        for decade, counts in found.ages.items()
    ]
    rows.append(["all", *(str(manifest.counts.get(split, 0)) for split in _SPLITS), str(manifest.faces)])
    out.print(table(f"{manifest.name}: faces by age and split", ["age", *_SPLITS, "all"], rows))
    for name, value in _facts(found):
        out.print(f"{name:15} {value}", **PLAIN)
    if found.left_out:
        left = [[item.reason, str(item.count), item.examples[0][0]] for item in found.left_out]
        out.print(table("left out", ["reason", "rows", "for example"], left))
    else:
        out.print(f"{'left out':15} nothing", **PLAIN)


def _facts(found: Inspection) -> list[tuple[str, str]]:
    manifest, crop = found.manifest, found.manifest.crop
    return [
        ("subjects", str(manifest.subjects or "unknown")),
        ("label kind", manifest.label_kind),
        ("licence", manifest.licence),
        ("crop", f"{crop.size} px, {crop.scale:g} x box, {'aligned' if crop.align else 'not aligned'}"),
        ("detector", manifest.detector),
        ("sources", _listed(found.totals("source"))),
        ("sexes", _listed(found.totals("sex"))),
        ("order of rows", "mixed" if manifest.is_mixed else "of the source"),
        ("content digest", manifest.content_digest),
    ]
