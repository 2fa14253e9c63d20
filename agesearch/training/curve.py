"""A learning curve on disk, one JSON line an epoch, and following it while another process writes it."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from agesearch.errors import AgeSearchError
from agesearch.metrics import EPOCH, EPOCH_SECONDS, VAL_MAE_YEARS, VAL_TOP1
from agesearch.progress import Listener, Progress
from agesearch.storage import Location, unwritten

CURVE = "curve.jsonl"
#: Where an epoch stands, while it is trained.
WITHIN = "epoch.json"

#: Seconds between two words on where an epoch stands.
TELL_S = 2.0
_POLL_S = 0.5

Row = dict[str, float]
Within = dict[str, float]


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


class EpochProgress:
    """Writes down within an epoch where it stands, every ``every_s`` seconds, for ``followed``."""

    def __init__(self, folder: Location, every_s: float = TELL_S) -> None:
        self._file, self._every = folder / WITHIN, every_s
        self._epoch, self._began, self._wrote = -1, 0.0, -math.inf

    def __call__(self, epoch: int, faces: int, total: int) -> None:
        """So many faces of an epoch (from 0) are trained on, of ``total``."""
        now = time.monotonic()
        if epoch != self._epoch:
            self._epoch, self._began = epoch, now
        elif now - self._wrote >= self._every:
            self._wrote = now
            rate = faces / max(1e-9, now - self._began)
            self._file.write_json({"epoch": epoch, "faces": faces, "total": total, "faces_per_s": rate})


@contextmanager
def followed(folder: Location, epochs: int, on_progress: Listener) -> Iterator[None]:
    """Tell the listener of each epoch as it appears in the curve, and now and then of where one stands,
    whichever process trains.
    """
    over = threading.Event()
    seen: tuple[int, Within | None] | None = None
    last = 0.0

    def follow() -> None:
        nonlocal seen, last
        rows, within = read_curve(folder), _within(folder)
        if (len(rows), within) != seen or time.monotonic() - last > TELL_S:  # a long validation is no silence
            seen, last = (len(rows), within), time.monotonic()
            on_progress(Progress("training", len(rows), epochs, note=_note(rows, epochs, within)))

    def poll() -> None:
        while not over.wait(_POLL_S):
            follow()

    thread = threading.Thread(target=poll, name="training progress", daemon=True)
    (folder / WITHIN).delete()
    follow()
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        (folder / WITHIN).delete()
        follow()


def _within(folder: Location) -> Within | None:
    try:
        return dict((folder / WITHIN).read_json()) if (folder / WITHIN).exists() else None
    except (AgeSearchError, ValueError):  # replaced in this very moment
        return None


def _note(rows: list[Row], epochs: int, within: Within | None) -> str:
    faces, left = "", ""
    if within is not None and within["epoch"] == len(rows) and len(rows) < epochs:
        done, total, rate = within["faces"], within["total"], within["faces_per_s"]
        faces = f"epoch {len(rows) + 1}: {done:,.0f} of {total:,.0f} faces, {rate:,.0f} faces/s"
        left = f"{(total * (epochs - len(rows)) - done) / rate:.0f} s left"
    if rows:
        seconds = [row.get(EPOCH_SECONDS) or 0.0 for row in rows[-3:]]
        left = f"{sum(seconds) / len(seconds) * (epochs - len(rows)):.0f} s left"
    return ", ".join(filter(None, (_errors(rows), faces, left)))


def _errors(rows: list[Row]) -> str:
    errors, rights = _known(rows, VAL_MAE_YEARS), _known(rows, VAL_TOP1)
    if errors:
        return f"val MAE {errors[-1]:.2f} years, best {min(errors):.2f}"
    return f"val groups {rights[-1]:.1%} right, best {max(rights):.1%}" if rights else ""


def _known(rows: list[Row], name: str) -> list[float]:
    return [row[name] for row in rows if row.get(name) is not None]
