"""Reader of ``ROOT/<age>/**/image``: the folder's name is the age (``37``) or the age group (``25-32``)."""

from __future__ import annotations

from collections.abc import Iterator

from agesearch.data.dataset.records import Rejected, SourceRecord
from agesearch.data.sources.base import Source, SourceOptions, walk_images
from agesearch.data.sources.values import BadLabel, parse_age
from agesearch.errors import InputError


def read(options: SourceOptions) -> Iterator[SourceRecord | Rejected]:
    """One record per image under a folder named by an age; images elsewhere are rejected as
    ``not_in_an_age_folder``. With ``unlabelled`` every image is taken, without an age.
    """
    root = options.root
    if not root.is_dir():
        raise InputError(f"'{root}' is not a folder, but the source 'folder' reads ROOT/<age>/image.")
    for item in walk_images(root):
        if isinstance(item, Rejected):
            yield Rejected(item.path, item.reason, item.detail, root.name)
            continue
        yield _record(item, root.name, item[len(str(root)) + 1 :], unlabelled=options.unlabelled)


def _record(path: str, source: str, relative: str, *, unlabelled: bool) -> SourceRecord | Rejected:
    if unlabelled:
        return SourceRecord(path, source)
    folder, _, below = relative.partition("/")
    if not below:
        return Rejected(path, "not_in_an_age_folder", "it lies in no folder", source)
    try:
        age, low, high = parse_age(folder)
    except BadLabel as error:
        return Rejected(path, "not_in_an_age_folder", str(error), source)
    return SourceRecord(path, source, age=age, age_low=low, age_high=high)


SOURCE = Source(
    layout="ROOT/<age>/image, ROOT/<low>-<high>/image",
    label_kind="real",
    licence="the owner's",
    identities="none",
    read=read,
)
