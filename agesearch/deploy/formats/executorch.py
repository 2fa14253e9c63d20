"""ExecuTorch: a ``.pte`` for one face, its layers by XNNPACK (phones' and boards' CPUs)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from agesearch.ages import FloatArray
from agesearch.data.images.decode import RgbImage
from agesearch.deploy.formats.reading import Reading
from agesearch.deploy.formats.subject import ExportSubject
from agesearch.errors import AgeSearchError, first_line
from agesearch.models.prepare import prepare


def write(subject: ExportSubject, reading: Reading, file: Path) -> None:
    """Write the network; its reading has no place inside a ``.pte`` and stands beside it."""
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    from agesearch.models.tracing import answering

    size = subject.input_size
    try:
        program = torch.export.export(answering(subject.net(), size), (torch.zeros(1, 3, size, size),))
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        file.write_bytes(lowered.to_executorch().buffer)
    except Exception as error:  # torch.export's and ExecuTorch's own kinds share no base
        raise AgeSearchError(f"The network cannot be written for ExecuTorch: {first_line(error)}") from error


def answer(file: Path, crops: RgbImage, size: int) -> FloatArray:
    """PMFs by ExecuTorch's runtime, face by face."""
    import torch
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(file).load_method("forward")
    inputs = prepare(crops, size)
    # the runtime hands out its own memory, which the next call writes over
    found = [method.execute([torch.from_numpy(one[None])])[0].numpy().copy() for one in inputs]
    return np.concatenate(found)
