"""What a network takes besides time: the bytes of its file, and the peak memory of a session that runs it.

Memory is measured in a fresh process: it loads the runtime, notes the memory it has then, opens the network
from its file and runs it three times. ``session_bytes`` is by how much its resident memory rose at its peak,
``process_bytes`` that peak itself, with the runtime and Python in it. The kernel keeps the peak, so nothing
is missed between two looks; that is Linux only, and elsewhere both are unknown.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from agesearch.errors import AgeSearchError, first_line
from agesearch.measure.speed.timing import TimedModel
from agesearch.models.runtimes.engines import DEFAULT, OPENVINO, Engine
from agesearch.specs import Spec

_SECONDS = 300
_RUNS = 3
_STATUS = Path("/proc/self/status")
#: Writing a 5 there makes the kernel forget the peak so far.
_FORGET = Path("/proc/self/clear_refs")


class Footprint(Spec):
    """Bytes of the file, and peak memory in bytes; None where the system does not tell it."""

    file_bytes: int
    session_bytes: int | None = None
    process_bytes: int | None = None


class FootprintRow(Footprint):
    """That of a model on an engine, for one face on one thread."""

    model: str
    runtime: str
    precision: str

    @property
    def engine(self) -> Engine:
        """The runtime and the precision."""
        return Engine(self.runtime, self.precision)


def footprint(networks: Sequence[bytes], input_size: int, engine: Engine = DEFAULT) -> Footprint:
    """The footprint of ONNX networks that answer together (as a rule one), for one face on one thread;
    ``input_size`` stands for sides that a network leaves open.

    Raises ``AgeSearchError`` where they do not run.
    """
    total = sum(map(len, networks))
    if not _STATUS.exists():
        return Footprint(file_bytes=total)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{index}.onnx" for index in range(len(networks))]
        for file, content in zip(files, networks, strict=True):
            file.write_bytes(content)
        words = [sys.executable, "-m", __name__, *engine, str(input_size), *map(str, files)]
        paths = os.pathsep.join(path for path in sys.path if path)
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
            env=os.environ | {"PYTHONPATH": paths},
        )
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or ["it does not say why"])[-1]
        raise AgeSearchError(f"The memory of the network cannot be measured on {engine}: {why}")
    return Footprint(file_bytes=total, **json.loads(done.stdout))


def known_footprint(networks: Sequence[bytes], input_size: int, engine: Engine) -> Footprint:
    """The same; where the memory cannot be measured, it is unknown."""
    try:
        return footprint(networks, input_size, engine)
    except (AgeSearchError, OSError, subprocess.SubprocessError):
        return Footprint(file_bytes=sum(map(len, networks)))


def weighed(model: TimedModel) -> Footprint:
    """The footprint of a model on its engine; a GPU's memory is not looked at."""
    if model.engine.on_gpu:
        return Footprint(file_bytes=sum(map(len, model.networks())))
    return known_footprint(model.networks(), model.input_size, model.engine)


def megabytes(count: int | None) -> str:
    """Bytes as a table shows them."""
    return "-" if count is None else f"{count / 1e6:.3g}"


def _measured(engine: Engine, input_size: int, files: Sequence[str]) -> dict[str, int]:
    """In the fresh process: the runtime, then the networks."""
    from agesearch.models.runtimes.sessions import open_engine

    _load_runtime(engine)
    before = _resident("VmRSS")
    with suppress(OSError):  # else what the runtime needed for a moment counts, too
        _FORGET.write_text("5")
    sessions = [open_engine(Path(file).read_bytes(), engine) for file in files]
    for session in sessions:
        for _ in range(_RUNS):
            session.run(None, _feed(session, input_size))
    peak = _resident("VmHWM")
    return {"session_bytes": max(peak - before, 0), "process_bytes": peak}


def _load_runtime(engine: Engine) -> None:
    """The runtime's libraries, which every network shares."""
    if engine.runtime != OPENVINO:
        import onnxruntime  # noqa: F401

        return
    import openvino
    from openvino import opset13

    given = opset13.parameter([1, 4], name="x")  # OpenVINO loads the CPU's part with the first model
    openvino.Core().compile_model(openvino.Model([opset13.relu(given)], [given], "tiny"), "CPU")


def _feed(session: Any, input_size: int) -> dict[str, Any]:
    import numpy as np

    kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
    return {
        given.name: np.full(
            [
                1 if axis == 0 else size if isinstance(size, int) else input_size
                for axis, size in enumerate(given.shape)
            ],
            100,
            kinds[given.type],
        )
        for given in session.get_inputs()
    }


def _resident(name: str) -> int:
    line = next(line for line in _STATUS.read_text(encoding="ascii").splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    try:
        print(json.dumps(_measured(Engine(*sys.argv[1:3]), int(sys.argv[3]), sys.argv[4:])))
    except Exception as error:  # told to the process that asked
        sys.exit(f"{type(error).__name__}: {first_line(error)}")
