"""The dataset's card for machines: ``croissant.json`` beside the manifest, in Croissant 1.1.

Croissant (Akhtar et al. 2024, MLCommons) is JSON-LD over schema.org: what the dataset is, which files it has,
which columns its records have, and what is sensitive in them. Tools that read it (``mlcroissant``, dataset
search) open the shards without a line of ours. It lies in the dataset's folder, since its files are named
relative to it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from agesearch.data.audit.card_data import Inspection
from agesearch.data.dataset.records import CROISSANT, MANIFEST, SHARDS, Manifest, Split
from agesearch.storage import Location

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"

_JSON, _PARQUET = "application/json", "application/x-parquet"
_FILES, _FACES, _SPLITS = "shards", "faces", "splits"

#: The standard context of Croissant 1.1, word by word.
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}

_TEXT, _FLOAT, _INTEGER, _IMAGE = "sc:Text", "sc:Float", "sc:Integer", "sc:ImageObject"

#: Columns of a shard: type, what they are, and how many numbers a list of them holds.
_COLUMNS: dict[str, tuple[str, str, int | None]] = {
    "sample_id": (_TEXT, "what names the face: a digest of the photograph and its box", None),
    "photo_digest": (_TEXT, "what names the photograph", None),
    "image": (_IMAGE, "the crop of the face", None),
    "age": (_FLOAT, "age in years; missing where only a group or nothing is known", None),
    "age_std": (_FLOAT, "standard deviation of the raters' ages in years", None),
    "age_low": (_FLOAT, "first year of the age group", None),
    "age_high": (_FLOAT, "last year of the age group", None),
    "subject_id": (_TEXT, "whom the face shows, where that is known", None),
    "sex": (_TEXT, "as the source says", None),
    "ethnicity": (_TEXT, "group, as the source says", None),
    "source": (_TEXT, "the source that the face came from", None),
    "split": (_TEXT, "train, val or test", None),
    "fold": (_INTEGER, "the owner's fold, where there is one", None),
    "box": (_FLOAT, "box of the face in the photograph: x, y, width, height in pixels", 4),
    "landmarks": (_FLOAT, "five points in the photograph: x and y of eyes, nose, corners of the mouth", 10),
    "label_kind": (_TEXT, "what kind the label is, where the dataset is a mixture", None),
    "weight": (_FLOAT, "weight in training, where the dataset is a mixture", None),
}

_SENSITIVE = (
    "Photographs of faces, from which persons can be recognised",
    "Age",
    "Sex and ethnic group as the sources label them",
)
_LIMITS = (
    "Ages, sexes and groups are as the sources say, errors included. Faces that no detector found, and those "
    "that quarantine.parquet names, are missing. Who is shown in which numbers is that of the sources: see "
    "the counts."
)


def write_croissant(found: Inspection) -> Location:
    """Write the card of an inspected dataset into its folder; returns the file."""
    folder = Location.of(found.dataset)
    digest = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    (folder / CROISSANT).write_json(croissant(found, digest))
    return folder / CROISSANT


def croissant(found: Inspection, manifest_sha256: str) -> dict[str, Any]:
    """The card as JSON-LD; ``manifest_sha256`` is that of the file ``dataset.json``."""
    manifest = found.manifest
    document = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "@id": manifest.content_digest,
        "name": manifest.name,
        "description": _description(found),
        "conformsTo": CONFORMS_TO,
        "license": manifest.licence,
        "citeAs": f"{manifest.name}, faces {manifest.content_digest}. Cite its sources, too.",
        "version": f"1.0.0+{manifest.content_digest}",
        "keywords": ["face", "age estimation", manifest.label_kind],
        "rai:personalSensitiveInformation": list(_SENSITIVE),
        "rai:dataLimitations": " ".join([_LIMITS, *manifest.notes]),
        "rai:dataCollectionMissingData": _left_out(found),
        "distribution": _distribution(manifest_sha256),
        "recordSet": [_splits(manifest), _faces()],
    }
    if manifest.created:
        document |= {"dateCreated": manifest.created, "datePublished": manifest.created}
    return document


def _description(found: Inspection) -> str:
    manifest = found.manifest
    counts = ", ".join(f"{count:,} {split}" for split, count in manifest.counts.items())
    people = "identities unknown" if manifest.subjects is None else f"{manifest.subjects:,} persons"
    crop = manifest.crop
    ages = ", ".join(f"{name}: {sum(splits.values()):,}" for name, splits in found.ages.items())
    return (
        f"{manifest.faces:,} face crops of {crop.size} px with {manifest.label_kind} ages ({counts}; "
        f"{people}), cut {crop.scale:g} times as large as the box of the face, "
        f"{'eyes level' if crop.align else 'not aligned'}, detector {manifest.detector}. Faces by age: "
        f"{ages}."
    )


def _left_out(found: Inspection) -> str:
    reasons = ", ".join(f"{count:,} for '{reason}'" for reason, count in found.manifest.left_out.items())
    return f"Left out: {reasons}." if reasons else "Nothing of the sources was left out."


def _distribution(manifest_sha256: str) -> list[dict[str, Any]]:
    return [
        {
            "@type": "cr:FileObject",
            "@id": MANIFEST,
            "name": MANIFEST,
            "description": "The manifest: how the crops were made, counts, and what was left out.",
            "contentUrl": MANIFEST,
            "encodingFormat": _JSON,
            "sha256": manifest_sha256,
        },
        {
            "@type": "cr:FileSet",
            "@id": _FILES,
            "name": _FILES,
            "description": "The faces, a row each.",
            "encodingFormat": _PARQUET,
            "includes": f"{SHARDS}/*.parquet",
        },
    ]


def _splits(manifest: Manifest) -> dict[str, Any]:
    known = [split.value for split in Split if manifest.counts.get(split.value)]
    return {
        "@type": "cr:RecordSet",
        "@id": _SPLITS,
        "name": _SPLITS,
        "dataType": "cr:Split",
        "key": {"@id": f"{_SPLITS}/split"},
        "field": [{"@type": "cr:Field", "@id": f"{_SPLITS}/split", "name": "split", "dataType": _TEXT}],
        "data": [{f"{_SPLITS}/split": split} for split in known],
    }


def _faces() -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": _FACES,
        "name": _FACES,
        "description": "One record a face.",
        "key": {"@id": f"{_FACES}/sample_id"},
        "field": list(_fields()),
    }


def _fields() -> Iterator[dict[str, Any]]:
    for name, (kind, about, length) in _COLUMNS.items():
        field: dict[str, Any] = {
            "@type": "cr:Field",
            "@id": f"{_FACES}/{name}",
            "name": name,
            "description": about,
            "dataType": kind,
            "source": {"fileSet": {"@id": _FILES}, "extract": {"column": name}},
        }
        if length is not None:
            field |= {"isArray": True, "arrayShape": str(length)}
        if name == "split":
            field["references"] = {"field": {"@id": f"{_SPLITS}/split"}}
        yield field
