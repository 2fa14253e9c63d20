"""Keeps the terminal for what agesearch says: all that libraries write goes into a log file.

Ray, torch, Hugging Face and their native code write to file descriptors 1 and 2 whenever they like. While a
verb runs, both lead into a log, and our two consoles write to what the descriptors were before. So nothing
has to be filtered, on a terminal, in a pipe, or under ``--json``. A verb that fails names its log, if there
is anything in it, and so does one whose process is ended by a library or a kill; of one that succeeds none is
left. Under ``--debug`` there is no log: both lead to standard error, as it comes.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, TextIO

import typer

from agesearch.cli.common import err, out, say
from agesearch.errors import AgeSearchError

#: What a shell expects of a program that Ctrl-C ended.
EXIT_INTERRUPTED = 130

#: Logs of verbs that failed are kept for so long.
_KEPT_S = 7 * 24 * 3600.0


def quietly(verb: Callable[..., Any]) -> Callable[..., Any]:
    """The verb with the terminal to itself; Ctrl-C and SIGTERM end it with a line and exit code 130."""

    @functools.wraps(verb)
    def run(*args: Any, **options: Any) -> Any:
        if sys.stdout is None or sys.stderr is None:  # started with one of them closed
            return verb(*args, **options)
        with libraries_into(new_log()):
            try:
                return verb(*args, **options)
            except KeyboardInterrupt:
                say("Stopped.")
                raise typer.Exit(EXIT_INTERRUPTED) from None

    return run


def openly(verb: Callable[..., Any]) -> Callable[..., Any]:
    """The verb with standard output to itself: what libraries write is seen on standard error."""

    @functools.wraps(verb)
    def run(*args: Any, **options: Any) -> Any:
        if sys.stdout is None or sys.stderr is None:
            return verb(*args, **options)
        with open(os.dup(2), "w", encoding="utf-8") as errors, _led_into(errors):
            return verb(*args, **options)

    return run


@contextmanager
def libraries_into(log: Path) -> Iterator[None]:
    """Within the block file descriptors 1 and 2 write into ``log``, our consoles to what they were.

    An error that is not the user's gets a note that names the log; without anything to tell, it is removed.
    """
    try:
        with open(log, "w", encoding="utf-8") as handle, _led_into(handle), _witnessed(log):
            yield
    except BaseException as error:
        if _is_fault(error) and log.stat().st_size:
            error.add_note(f"What libraries wrote is in {log}")
            raise
        _remove(log)
        raise
    _remove(log)


def new_log() -> Path:
    """A new file for what libraries write; old ones are removed."""
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}.log"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    for place in (cache / "agesearch" / "logs", Path(tempfile.gettempdir())):
        with suppress(OSError, RuntimeError):  # RuntimeError: a user without a home
            folder = place.expanduser()
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).touch(mode=0o600)
            for old in folder.glob("*T*-*.log"):
                if time.time() - old.stat().st_mtime > _KEPT_S:
                    _remove(old)
            return folder / name
    return Path(os.devnull)


@contextmanager
def _led_into(handle: TextIO) -> Iterator[None]:
    streams = (sys.stdout, sys.stderr)
    for stream in streams:
        stream.flush()
    before = (out._file, err._file)  # as a rule none: a console then follows sys.stdout, which ``file`` hides
    ours = [_reopened(descriptor) for descriptor in (1, 2)]
    out.file, err.file = ours
    for descriptor in (1, 2):
        os.dup2(handle.fileno(), descriptor)
    try:
        yield
    finally:
        for descriptor, stream, own in zip((1, 2), streams, ours, strict=True):
            with suppress(OSError, ValueError):  # a pipe whose reader went away
                stream.flush()
            with suppress(OSError, ValueError):
                own.flush()
            os.dup2(own.fileno(), descriptor)
        out._file, err._file = before


class _Witness:
    """A child that says, where this process ends without a word, that it did: Ray's native code ends a driver
    whose node dies, and a machine without memory kills.
    """

    current: _Witness | None = None

    def __init__(self, log: Path) -> None:
        reading, self._writing = os.pipe()
        err.file.flush()
        out.file.flush()
        self._child = os.fork()
        if not self._child:
            os.close(self._writing)
            _testify(reading, log)
        os.close(reading)
        _Witness.current = self

    def dismiss(self) -> None:
        """The end is in order: nothing is to be said."""
        _Witness.current = None
        with suppress(OSError):
            os.write(self._writing, b".")
        os.close(self._writing)
        with suppress(OSError):
            os.waitpid(self._child, 0)


def _testify(reading: int, log: Path) -> NoReturn:
    """Wait until the parent dismisses this process, or is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        if not os.read(reading, 1):
            words = "error: The run was ended from outside, or by a library (Ray ends one whose node dies)."
            os.write(err.file.fileno(), f"{words}\nWhat libraries wrote is in {log}\n".encode())
    finally:
        os._exit(0)


@contextmanager
def _witnessed(log: Path) -> Iterator[None]:
    witness = _Witness(log)
    try:
        yield
    finally:
        witness.dismiss()


def leave_at_once() -> None:
    """Say so, and be ready to end without any further step."""
    say("Stopped at once.")
    if _Witness.current is not None:
        _Witness.current.dismiss()


def _reopened(descriptor: int) -> TextIO:
    """A stream of our own to where a descriptor leads now."""
    encoding = (sys.stdout, sys.stderr)[descriptor - 1].encoding
    return open(os.dup(descriptor), "w", encoding=encoding, errors="backslashreplace", buffering=1)


def _is_fault(error: BaseException) -> bool:
    """Whether a run failed although its input was sound."""
    if isinstance(error, AgeSearchError):
        return error.exit_code == 1
    return isinstance(error, Exception) and not isinstance(error, typer.Exit)


def _remove(log: Path) -> None:
    if log != Path(os.devnull):
        log.unlink(missing_ok=True)
