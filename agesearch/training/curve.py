"""A learning curve on disk, one JSON line an epoch, and following it while another process writes it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from agesearch.metrics import EPOCH, EPOCH_SECONDS, VAL_MAE_YEARS, VAL_TOP1
from agesearch.progress import Listener, Progress
from agesearch.storage import Location

CURVE = "curve.jsonl"

_POLL_S = 0.5

Row = dict[str, float]


def append_row(folder: Location, row: Row) -> None:
    """Add an epoch's row; on storage that cannot append, the file is written anew."""
    line = json.dumps(row, allow_nan=False) + "\n"
    file = folder / CURVE
    if file.is_local:
        folder.make_dir()
        with open(file.local(), "a", encoding="utf-8") as handle:
            handle.write(line)
    else:
        file.write_text((file.read_text() if file.exists() else "") + line)


def read_curve(folder: Location) -> list[Row]:
    """The rows so far, by epoch; a line that a kill left torn is left out."""
    file = folder / CURVE
    if not file.exists():
        return []
    rows = []
    for line in file.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def keep_epochs(folder: Location, epochs: int) -> None:
    """Forget rows after the first ``epochs`` epochs: a resumed run writes them again."""
    file = folder / CURVE
    if file.exists():
        kept = [row for row in read_curve(folder) if row.get(EPOCH, 0) <= epochs]
        file.write_text("".join(json.dumps(row) + "\n" for row in kept))


@contextmanager
def followed(folder: Location, epochs: int, on_progress: Listener) -> Iterator[None]:
    """Tell the listener of each epoch as it appears in the curve, whichever process writes it."""
    over = threading.Event()
    told = -1

    def follow() -> None:
        nonlocal told
        rows = read_curve(folder)
        if len(rows) != told:
            told = len(rows)
            on_progress(Progress("training", told, epochs, note=_note(rows, epochs)))

    def poll() -> None:
        while not over.wait(_POLL_S):
            follow()

    thread = threading.Thread(target=poll, name="training progress", daemon=True)
    follow()
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        follow()


def _note(rows: list[Row], epochs: int) -> str:
    if not rows:
        return ""
    left = sum(row[EPOCH_SECONDS] for row in rows[-3:]) / len(rows[-3:]) * (epochs - len(rows))
    if VAL_MAE_YEARS in rows[-1]:
        last, best = rows[-1][VAL_MAE_YEARS], min(row[VAL_MAE_YEARS] for row in rows)
        return f"val MAE {last:.2f} years, best {best:.2f}, {left:.0f} s left"
    right, most = rows[-1][VAL_TOP1], max(row[VAL_TOP1] for row in rows)
    return f"val groups {right:.1%} right, best {most:.1%}, {left:.0f} s left"
