"""Reader of the Asian Face Age Dataset (Niu et al., CVPR 2016), full (15..72 years) and lite (15..40):
``<age>/<111 male, 112 female>/<number>-<n>.jpg``.
"""

from __future__ import annotations

from collections.abc import Iterator

from agesearch.data.dataset.records import Rejected, SourceRecord
from agesearch.data.sources.base import Source, SourceOptions, check_folder, read_names
from agesearch.data.sources.values import BadLabel, parse_years

_LAYOUT = "ROOT/[AFAD-Full/|AFAD-Lite/]<age>/<111 male, 112 female>/<number>-<n>.jpg"
_SEXES = {"111": "male", "112": "female"}


def read(options: SourceOptions) -> Iterator[SourceRecord | Rejected]:
    """One record per image in a folder of an age and one of a sex; what lies elsewhere is
    ``not_in_an_age_folder``, the index and ``Thumbs.db`` are ``not_an_image_name``.
    """
    check_folder(options.root, "afad", _LAYOUT)
    yield from read_names(options.root, "afad", _record)


def _record(path: str, relative: str) -> SourceRecord:
    parts = relative.split("/")
    if len(parts) < 3 or not parts[-3].isdecimal():
        raise BadLabel("not_in_an_age_folder", f"'{relative[:80]}' is not in <age>/<111 or 112>/")
    if parts[-2] not in _SEXES:
        raise BadLabel("not_in_an_age_folder", f"'{parts[-2][:40]}' is neither 111 (male) nor 112 (female)")
    return SourceRecord(path, "afad", age=parse_years(parts[-3]), sex=_SEXES[parts[-2]])


SOURCE = Source(
    layout=_LAYOUT,
    label_kind="real",
    licence="non-commercial research only",
    identities="none",
    read=read,
    notes=(
        "Identities are unknown, so no split of AFAD is known to be subject-exclusive. The number before the "
        "dash is not a person's but, it seems, a photograph's: the owner's index has men and women under one "
        "number (15/111/58945-0, 15/112/58945-2) and runs of numbers in one folder, as in an album.",
    ),
)
