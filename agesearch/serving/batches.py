"""Requests answered in batches, on one thread, and refused at once where they would have to wait too long.

While a batch is worked on, the next requests gather; then they share one pass of the network. Nobody waits
for company: a request that comes alone is answered alone.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import Protocol

from agesearch.serving.faces import Asked
from agesearch.serving.schema import Prediction, Refusal

#: Most images of a batch, and the seconds after which no more are taken into it: the first one waits for all.
MOST_IN_BATCH = 8
_GATHERING_S = 0.02
#: An image is refused where it would wait longer, unless no more than a batch waits ...
MAX_WAIT_S = 0.5
#: ... and where so many wait already, whatever they cost.
MAX_WAITING = 64
#: Weight of the newest batch in the running mean of seconds an image.
_NEWEST = 0.2

Answer = Prediction | Refusal


class Answering(Protocol):
    """What answers a batch."""

    def answers(
        self, asked: Sequence[Asked], goes_on: Callable[[], Asked | None] = ...
    ) -> list[Prediction | Refusal]:
        """One answer an image; ``goes_on`` gives one more while there is room and time."""
        ...


class _Waiting:
    """An image in the queue and who waits for its answer."""

    __slots__ = ("asked", "future", "loop")

    def __init__(self, asked: Asked, loop: asyncio.AbstractEventLoop) -> None:
        self.asked = asked
        self.loop = loop
        self.future: asyncio.Future[Answer] = loop.create_future()


class Batches:
    """The queue of one replica and the thread that works it off. ``on_batch`` hears of each batch's size."""

    def __init__(
        self,
        service: Answering,
        on_batch: Callable[[int], None] = lambda _: None,
        max_wait_s: float = MAX_WAIT_S,
    ) -> None:
        self._service = service
        self._on_batch = on_batch
        self._max_wait_s = max_wait_s
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()  # None: the sign to close
        self._in_work = 0
        self._seconds_an_image = 0.0
        self._thread = threading.Thread(target=self._run, name="predict", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Images that have no answer yet."""
        return self._queue.qsize() + self._in_work

    def require_room(self, images: int = 1) -> None:
        """Refuse (503) images that would wait too long; ``Retry-After`` says for how long it would be."""
        before = self.waiting
        expected = before * self._seconds_an_image
        too_long = before >= MOST_IN_BATCH and expected > self._max_wait_s
        if too_long or (before and before + images > MAX_WAITING):
            raise busy(expected)

    async def ask(self, asked: Sequence[Asked]) -> list[Answer]:
        """The answers, in order, when their turn has come."""
        self.require_room(len(asked))
        loop, now = asyncio.get_running_loop(), time.perf_counter()
        waiting = [_Waiting(one if one.since else replace(one, since=now), loop) for one in asked]
        for one in waiting:
            self._queue.put(one)
        return [await one.future for one in waiting]

    def close(self) -> None:
        """End the thread when the queue is empty."""
        self._queue.put(None)

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            if not first.future.done():  # its client may have gone
                self._answer(first)

    def _answer(self, first: _Waiting) -> None:
        began = time.perf_counter()
        batch = [first]
        self._in_work = 1

        def goes_on() -> Asked | None:
            if time.perf_counter() - began > _GATHERING_S or len(batch) == MOST_IN_BATCH:
                return None
            try:
                one = self._queue.get_nowait()
            except Empty:
                return None
            if one is None:
                self._queue.put(None)  # for when this batch has its answers
                return None
            batch.append(one)
            self._in_work = len(batch)
            return one.asked

        answers: Sequence[Answer | Exception]
        try:
            answers = self._service.answers([first.asked], goes_on)
        except Exception as error:
            # One image must not cost the others their answers.
            answers = [error] if len(batch) == 1 else [self._alone(one.asked) for one in batch]
        spent = (time.perf_counter() - began) / len(batch)
        known = self._seconds_an_image
        self._seconds_an_image = spent if not known else known + _NEWEST * (spent - known)
        self._in_work = 0
        self._on_batch(len(batch))
        _deliver(batch, answers)

    def _alone(self, asked: Asked) -> Answer | Exception:
        try:
            (answer,) = self._service.answers([asked])
        except Exception as error:
            return error
        return answer


def _deliver(batch: Sequence[_Waiting], answers: Sequence[Answer | Exception]) -> None:
    """Give the answers out, with one call of each event loop (nearly always the same one)."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Waiting, Answer | Exception]]] = {}
    for waiting, answer in zip(batch, answers, strict=True):
        by_loop.setdefault(waiting.loop, []).append((waiting, answer))
    for loop, pairs in by_loop.items():
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(_settle, pairs)


def _settle(pairs: Sequence[tuple[_Waiting, Answer | Exception]]) -> None:
    for waiting, answer in pairs:
        if waiting.future.done():  # its client has gone
            continue
        if isinstance(answer, Exception) and not isinstance(answer, Refusal):
            waiting.future.set_exception(answer)
        else:
            waiting.future.set_result(answer)


def busy(wait_s: float = 0.0) -> Refusal:
    """The refusal of a request for which there is no room now."""
    seconds = max(1, math.ceil(wait_s))
    return Refusal(
        503,
        "busy",
        f"Too many requests at once: try again in {seconds} s.",
        headers={"Retry-After": str(seconds)},
    )
