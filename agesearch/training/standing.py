"""Where an epoch stands while it is trained: written down by whoever trains, and followed by others.

``epoch.json`` is renewed every few seconds, for whoever looks; ``curve.jsonl`` gets a row every ten seconds,
ever more rarely in a long epoch (about 300 in ten hours), and one at each checkpoint within an epoch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from agesearch import metrics
from agesearch.errors import AgeSearchError
from agesearch.machine import node_name
from agesearch.progress import Listener, Progress, spoken_every
from agesearch.storage import Location
from agesearch.training.curve import Row, append_row, read_curve, read_within

#: Where an epoch stands at this moment.
WITHIN = "epoch.json"

#: Seconds between two words on where an epoch stands; on an object store each is a request.
TELL_S = 2.0
_TELL_FAR_S = 10.0
#: Seconds between two rows of the curve, or this share of the epoch so far where that is more.
ROW_S = 10.0
_ROW_SHARE = 0.02
_POLL_S = 0.5
#: Epochs shorter than this many seconds are not told of in words.
LONG_S = 20.0

_VALIDATED, _NODE = "validated", "node"


@dataclass(frozen=True)
class Standing:
    """Of ``epoch`` (from 1), ``faces`` of ``total`` are trained on, in ``seconds``, the earlier attempts
    included, by ``faces_per_s`` a second now; ``loss`` is the mean so far (None: not a number). Once all are,
    ``validated`` is the share of the validation that is done. ``node`` is the machine that trains.
    """

    epoch: int
    faces: int
    total: int
    faces_per_s: float
    loss: float | None
    seconds: float
    validated: float = 0.0
    node: str = ""

    @property
    def share(self) -> float:
        """The share of the epoch's faces that is trained on."""
        return min(1.0, self.faces / max(1, self.total))

    @property
    def words(self) -> str:
        """``epoch 2: 120,000 of 3,000,000 faces, 410 faces/s, loss 2.31``."""
        if self.validated:
            return f"epoch {self.epoch}: validating, {self.validated:.0%}"
        loss = "" if self.loss is None else f", loss {self.loss:.3g}"
        pace = f"{self.faces:,} of {self.total:,} faces, {self.faces_per_s:,.0f} faces/s"
        return f"epoch {self.epoch}: {pace}{loss}"

    @property
    def is_long(self) -> bool:
        """Whether the epoch takes so long that people want to know more of it."""
        return self.seconds_left(1) + self.seconds > LONG_S

    def seconds_left(self, epochs: int) -> float:
        """Seconds until so many epochs are trained, at this pace."""
        left = self.total * (epochs - self.epoch + 1) - self.faces if epochs >= self.epoch else 0
        return max(0, left) / self.faces_per_s if self.faces_per_s > 0 else 0.0

    def row(self) -> Row:
        """The figures by their names."""
        return {
            metrics.WITHIN_EPOCH: self.epoch,
            metrics.FACES_SO_FAR: self.faces,
            metrics.FACES_OF_EPOCH: self.total,
            metrics.FACES_PER_S: round(self.faces_per_s, 1),
            metrics.LOSS_SO_FAR: math.nan if self.loss is None else self.loss,
            metrics.SECONDS_SO_FAR: round(self.seconds, 3),
        }

    @classmethod
    def of(cls, row: Any) -> Self:
        """From its figures; ``ValueError``, ``TypeError`` or ``LookupError`` where these are others."""
        loss = row[metrics.LOSS_SO_FAR]
        return cls(
            epoch=int(row[metrics.WITHIN_EPOCH]),
            faces=int(row[metrics.FACES_SO_FAR]),
            total=int(row[metrics.FACES_OF_EPOCH]),
            faces_per_s=float(row[metrics.FACES_PER_S]),
            loss=None if loss is None else float(loss),
            seconds=float(row[metrics.SECONDS_SO_FAR]),
            validated=float(row.get(_VALIDATED) or 0.0),
            node=str(row.get(_NODE) or ""),
        )


class EpochProgress:
    """Writes down within an epoch where it stands. ``now`` looks at the clock and does nothing else until it
    is time.
    """

    def __init__(self, folder: Location, every_s: float | None = None, row_s: float = ROW_S) -> None:
        self._folder = folder
        self._every = (TELL_S if folder.is_local else _TELL_FAR_S) if every_s is None else every_s
        self._row_s = row_s
        self.begin(0, 0)

    def begin(self, epoch: int, total: int, *, faces: int = 0, seconds: float = 0.0) -> None:
        """An epoch (from 0) of ``total`` faces begins, or goes on after some faces and seconds."""
        self._epoch, self._total, self._first = epoch, total, faces
        self._began = time.monotonic()
        self._before = seconds
        self._told = self._began
        self._next_row = self._began + self._row_interval(seconds)
        self._standing: Standing | None = None

    @property
    def seconds(self) -> float:
        """Seconds spent on the epoch so far, the earlier attempts included."""
        return self._before + time.monotonic() - self._began

    @property
    def is_due(self) -> bool:
        """Whether it is time to say something."""
        now = time.monotonic()
        return now - self._told >= self._every or now >= self._next_row

    def now(self, faces: int, loss: float) -> None:
        """So many faces of the epoch are trained on, with this mean loss."""
        standing = self._stands(faces, loss)
        now = time.monotonic()
        if now - self._told >= self._every:
            self._tell(standing.row())
        if now >= self._next_row:
            self.keep(faces, loss)

    def keep(self, faces: int, loss: float) -> None:
        """Write a row of the curve at once."""
        standing = self._stands(faces, loss)
        append_row(self._folder, standing.row())
        self._next_row = time.monotonic() + self._row_interval(standing.seconds)

    def validating(self, share: float) -> None:
        """So much of the validation behind the epoch is done."""
        if self._standing is not None and time.monotonic() - self._told >= self._every:
            self._tell(self._standing.row() | {_VALIDATED: share})

    def end(self) -> None:
        """The training is over, or ends for now."""
        (self._folder / WITHIN).delete()

    def _stands(self, faces: int, loss: float) -> Standing:
        elapsed = max(1e-9, time.monotonic() - self._began)
        self._standing = Standing(
            epoch=self._epoch + 1,
            faces=faces,
            total=self._total,
            faces_per_s=(faces - self._first) / elapsed,
            loss=loss if math.isfinite(loss) else None,
            seconds=self._before + elapsed,
        )
        return self._standing

    def _tell(self, row: Row) -> None:
        numbers = {name: value if math.isfinite(value) else None for name, value in row.items()}
        (self._folder / WITHIN).write_json({**numbers, _NODE: node_name()})
        self._told = time.monotonic()

    def _row_interval(self, seconds: float) -> float:
        return max(self._row_s, _ROW_SHARE * seconds)


def standing(folder: Location) -> Standing | None:
    """Where the epoch under way stands, or stood when its training was cut; None where none was told of."""
    found = standing_now(folder)
    if found is None:
        within = read_within(folder)
        found = _of(within[-1]) if within else None
    return found if found is not None and found.epoch == len(read_curve(folder)) + 1 else None


def standing_now(folder: Location) -> Standing | None:
    """The same by ``epoch.json`` alone: cheap enough to look at often, and of use while the training runs."""
    file = folder / WITHIN
    try:
        return _of(file.read_json()) if file.exists() else None
    except (AgeSearchError, ValueError):  # replaced in this very moment
        return None


def _of(row: Any) -> Standing | None:
    try:
        return Standing.of(row)
    except (ValueError, TypeError, LookupError, AttributeError):
        return None


@contextmanager
def followed(folder: Location, epochs: int, on_progress: Listener) -> Iterator[None]:
    """Tell the listener of each epoch as it appears in the curve, and now and then of where one stands,
    whichever process trains.
    """
    seen: tuple[int, Standing | None] | None = None
    last = 0.0

    def follow() -> None:
        nonlocal seen, last
        rows, within = read_curve(folder), standing_now(folder)
        if (len(rows), within) != seen or time.monotonic() - last > TELL_S:  # a long validation is no silence
            seen, last = (len(rows), within), time.monotonic()
            on_progress(Progress("training", len(rows), epochs, note=_note(rows, epochs, within)))

    (folder / WITHIN).delete()
    follow()
    try:
        with spoken_every(_POLL_S, follow):
            yield
    finally:
        (folder / WITHIN).delete()
        follow()


def words_left(seconds: float) -> str:
    """``40 s left``, ``35 min left``, ``7.5 h left``."""
    if seconds < 120:
        return f"{seconds:.0f} s left"
    return f"{seconds / 60:.0f} min left" if seconds < 7200 else f"{seconds / 3600:.1f} h left"


def _note(rows: list[Row], epochs: int, within: Standing | None) -> str:
    faces, left, share = "", "", 0.0
    if within is not None and within.epoch == len(rows) + 1 and len(rows) < epochs:
        faces, share = within.words, within.share
        left = words_left(within.seconds_left(epochs))
    if rows:
        seconds = [row.get(metrics.EPOCH_SECONDS) or 0.0 for row in rows[-3:]]
        left = words_left(sum(seconds) / len(seconds) * (epochs - len(rows) - share))
    return ", ".join(filter(None, (_errors(rows), faces, left)))


def _errors(rows: list[Row]) -> str:
    errors, rights = _known(rows, metrics.VAL_MAE_YEARS), _known(rows, metrics.VAL_TOP1)
    sorted_ = _known(rows, metrics.VAL_KENDALL_TAU)
    if errors:
        return f"val MAE {errors[-1]:.2f} years, best {min(errors):.2f}"
    if sorted_:
        return f"val Kendall tau {sorted_[-1]:.3f}, best {max(sorted_):.3f}"
    return f"val groups {rights[-1]:.1%} right, best {max(rights):.1%}" if rights else ""


def _known(rows: list[Row], name: str) -> list[float]:
    return [row[name] for row in rows if row.get(name) is not None]
