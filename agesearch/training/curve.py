"""A learning curve on disk, one JSON line an epoch, and following it while another process writes it."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from agesearch.metrics import EPOCH, EPOCH_SECONDS, VAL_MAE_YEARS, VAL_TOP1
from agesearch.progress import Listener, Progress
from agesearch.storage import Location, unwritten

CURVE = "curve.jsonl"

_POLL_S = 0.5

Row = dict[str, float]


def append_row(folder: Location, row: Row) -> None:
    """Add an epoch's row; on storage that cannot append, the file is written anew.

    A figure that is no number is written as null. Raises ``StorageFullError`` where there is no room.
    """
    line = _line(row)
    file = folder / CURVE
    if not file.is_local:
        file.write_text((file.read_text() if file.exists() else "") + line)
        return
    folder.make_dir()
    try:
        with open(file.local(), "a", encoding="utf-8") as handle:
            handle.write(line)
    except OSError as error:
        raise unwritten(file, error) from error


def read_curve(folder: Location) -> list[Row]:
    """The rows so far, by epoch; lines that a kill left torn or a disk damaged are left out."""
    file = folder / CURVE
    if not file.exists():
        return []
    rows = []
    for line in file.read_bytes().decode("utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def epoch_errors(folder: Location) -> dict[int, float]:
    """The validation error in years after each epoch that has one; of a repeated epoch, the last."""
    known = [(row.get(EPOCH), row.get(VAL_MAE_YEARS)) for row in read_curve(folder)]
    return {
        int(epoch): float(error)
        for epoch, error in known
        if isinstance(epoch, int | float) and isinstance(error, int | float) and math.isfinite(error)
    }


def keep_epochs(folder: Location, epochs: int, known: Sequence[Row] = ()) -> list[Row]:
    """Forget rows after the first ``epochs`` epochs, which a resumed run writes again; returns those kept.

    ``known`` are the rows of these epochs where a checkpoint has them; else those in the file count.
    """
    file = folder / CURVE
    if not known and not file.exists():
        return []
    rows = [row for row in known or read_curve(folder) if (row.get(EPOCH) or 0) <= epochs]
    file.write_text("".join(map(_line, rows)))
    return rows


def _line(row: Row) -> str:
    numbers = {name: value if math.isfinite(value) else None for name, value in row.items()}
    return json.dumps(numbers, allow_nan=False) + "\n"


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
    seconds = [row.get(EPOCH_SECONDS) or 0.0 for row in rows[-3:]]
    left = f"{sum(seconds) / len(seconds) * (epochs - len(rows)):.0f} s left"
    errors, rights = _known(rows, VAL_MAE_YEARS), _known(rows, VAL_TOP1)
    if errors:
        return f"val MAE {errors[-1]:.2f} years, best {min(errors):.2f}, {left}"
    return f"val groups {rights[-1]:.1%} right, best {max(rights):.1%}, {left}" if rights else left


def _known(rows: list[Row], name: str) -> list[float]:
    return [row[name] for row in rows if row.get(name) is not None]
