"""What a process keeps of memory that it needed once."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
#: Pieces of memory from this size on go back to the system as soon as they are freed; what an ordinary
#: photograph needs is smaller, and is kept for the next one ...
_LARGE_BYTES = 4 * 1024 * 1024
#: ... up to so much at once. The system clears each page that it gives: without this, which is 128 KiB where
#: the other is set, a third of the time of a photograph.
_KEPT_BYTES = 32 * 1024 * 1024


def give_back_large_pieces() -> None:
    """Have this process give back what large images needed.

    glibc raises its threshold with each large piece that is freed, up to 32 MiB, and what lies below it
    stays: after images of 50 megapixels a replica kept 200 MiB. A threshold that is set stays where it is.
    Other C libraries, which have no such call, are left as they are.
    """
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
            mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
