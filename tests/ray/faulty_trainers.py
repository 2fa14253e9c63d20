"""Trainers that break in every way a training can, one way a trial."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from agesearch.errors import StorageFullError
from agesearch.storage import Location

EPOCHS = 3
#: How the trial of each number breaks, and how its record must end.
FAULTS = {
    0: ("fine", "COMPLETE", ""),
    1: ("raises", "FAIL", "ZeroDivisionError: division by zero"),
    2: ("exits", "FAIL", "the training called sys.exit(3)"),
    3: ("infinite", "FAIL", "val_mae_years is inf after epoch 1"),
    4: ("negative", "FAIL", "val_mae_years is -2.0, but an error is not negative after epoch 1"),
    5: ("no number", "FAIL", "val_mae_years is 'low', no number after epoch 1"),
    6: ("nothing", "FAIL", "TypeError: 'NoneType' object is not a mapping"),
    7: ("late", "COMPLETE", ""),
    8: ("killed", "FAIL", "worker died, twice after epoch 1"),
    9: ("quits", "FAIL", "worker died, twice before its first epoch"),
    10: ("hangs", "FAIL", "hung: no progress for "),
    11: ("fine", "COMPLETE", ""),
}


def faulty(
    spec: Any,
    train: Any,
    val: Any,
    out: Location,
    crop: Any,
    *,
    report: Callable[[dict[str, Any]], None],
    **options: Any,
) -> Any:
    """Break as the trial's number says; in the first epoch, or after it."""
    fault = FAULTS[int(out.name)][0]
    _at_once(fault)
    done = out / "curve.jsonl"
    if not done.exists():
        error = {"infinite": float("inf"), "negative": -2.0, "no number": "low"}.get(fault, 7.0)
        done.write_text('{"epoch": 1, "val_mae_years": 7.0}\n')
        report({"epoch": 1, "val_mae_years": error})
    if fault == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    for epoch in range(2, EPOCHS + 1):
        report({"epoch": epoch, "val_mae_years": 7.0 - epoch})
    if fault == "late":
        threading.Timer(0.2, report, [{"epoch": 9, "val_mae_years": 0.0}]).start()
    return None if fault == "nothing" else {"val_mae_years": 4.0, "val_cs5": 0.5}


def _at_once(fault: str) -> None:
    if fault == "raises":
        print(1 / 0)
    elif fault == "exits":
        sys.exit(3)
    elif fault == "quits":
        os._exit(1)
    elif fault == "hangs":
        time.sleep(3600)


def without_room(
    spec: Any,
    train: Any,
    val: Any,
    out: Location,
    crop: Any,
    *,
    report: Callable[[dict[str, Any]], None],
    **options: Any,
) -> dict[str, float]:
    """The disk is full from the second trial on, until there is a file ``room`` in the study's folder."""
    if out.name != "0000" and not (out.parent.parent / "room").exists():
        raise StorageFullError(f"'{out}/checkpoint/state.pt' could not be written: No space left on device.")
    report({"epoch": 1, "val_mae_years": 7.0})
    return {"val_mae_years": 7.0, "val_cs5": 0.5}
