"""What verbs say of a dataset: of one they made, splits without faces and what comes next; of one that they
read, whether its rows are mixed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from agesearch.cli.common import err, harmless
from agesearch.errors import command

if TYPE_CHECKING:
    from agesearch.data.dataset.records import Manifest

#: What a split without faces keeps a user from.
_NEEDED_FOR = {
    "train": "nothing can be trained on it ('teach', 'tune')",
    "val": "'teach' and 'tune' choose by it",
    "test": "models that are chosen on it have no faces left to be tested on ('report', 'evaluate')",
}
_ARCH = "mobilenetv3_large_100"


def tell_notes(notes: Iterable[str]) -> None:
    """Print what users of a dataset must know."""
    for note in notes:
        err.print(harmless(f"Note: {note}"), style="yellow", highlight=False, markup=False, soft_wrap=True)


def tell_order(*places: str) -> None:
    """Tell of each dataset whose rows lie in the order of its source; not of what is no dataset, nor of one
    with a single shard, which is always read whole.
    """
    from agesearch.data.dataset.records import read_manifest
    from agesearch.data.dataset.shards import shard_names
    from agesearch.errors import InputError
    from agesearch.storage import Location

    for place in dict.fromkeys(places):
        try:
            is_mixed = read_manifest(place).is_mixed
        except InputError:
            continue  # the verb itself says what is wrong
        if not is_mixed and len(shard_names(Location.of(place))) > 1:
            remedy = command("data", "reshard", place)
            tell_notes([f"the rows of '{place}' lie in the order of its source. Mix them with: {remedy}"])


def tell_empty_splits(counts: Mapping[str, int], remedy: str) -> None:
    """Warn of each split without faces; ``remedy`` says how it gets some."""
    empty = [split for split in _NEEDED_FOR if not counts.get(split)]
    for split in empty:
        words = f"Warning: the split '{split}' has no faces: {_NEEDED_FOR[split]}."
        err.print(words, style="yellow", highlight=False, markup=False, soft_wrap=True)
    if empty:
        err.print(f"  {remedy}", highlight=False, markup=False, soft_wrap=True)


def tell_next(place: str, manifest: Manifest) -> None:
    """Print the commands that usually come next, as they can be pasted."""
    from agesearch.storage import beside

    place = place if "://" in place else place.rstrip("/") or place
    lines = [command("data", "check", place)]
    if "://" not in place:
        lines.append(command("data", "inspect", place, "--html", beside(place, ".html")))
    if manifest.label_kind == "none":
        lines.append(
            command("annotate", "--teacher", "TEACHER", "--data", place, "--out", beside(place, "-ages"))
        )
    elif manifest.counts.get("train") and manifest.counts.get("val"):
        lines.append(command("teach", "--data", place, "--arch", _ARCH, "--out", beside(place, "-teacher")))
    elif manifest.counts.get("test"):
        lines.append(command("evaluate", "MODEL", "--data", place))
    for start, line in zip(("Next:", *[" " * 5] * len(lines)), lines, strict=False):
        err.print(f"{start} {line}", highlight=False, markup=False, soft_wrap=True)
