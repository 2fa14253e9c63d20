"""What ``measure speed --gate`` found for a model on this machine, kept for the service here.

A version says how it answered and how fast it was where it was published; another CPU computes in other ways.
What is found on a machine goes before that, as one JSON file in the user's cache.
"""

from __future__ import annotations

from collections.abc import Sequence

from agesearch.errors import AgeSearchError
from agesearch.measure.speed.gate import Gate
from agesearch.measure.speed.hardware import hardware_name
from agesearch.measure.speed.latency_table import machine_cache
from agesearch.models.manifest import ModelManifest
from agesearch.models.runtimes.engines import DEFAULT, Engine, why_not
from agesearch.specs import Spec, digest_of, parse_spec
from agesearch.storage import Location


class ServedHere(Spec):
    """The gates of a model's engines, as found on ``hardware``."""

    hardware: str
    gates: tuple[Gate, ...]


def keep(manifest: ModelManifest, gates: Sequence[Gate]) -> None:
    """Keep what was found for the model of a manifest; without a cache that can be written, nothing is."""
    place = _place(manifest)
    if place is None:
        return
    found = ServedHere(hardware=hardware_name(), gates=tuple(gates))
    try:
        place.write_json(found.model_dump(mode="json"))
    except (AgeSearchError, OSError):
        return


def engine_here(manifest: ModelManifest, threads: int = 1) -> Engine:
    """The engine to serve a model on: the fastest of those that are known, on this kind of machine, to answer
    as well as fp32 in ONNX Runtime, and that one where nothing is known.
    """
    found = _kept(manifest)
    if found is not None:
        gates = [gate.model_dump(mode="json") for gate in found.gates]
        manifest = manifest.model_copy(update={"precisions": gates})
    engine = manifest.best_engine(hardware_name(), threads)
    return engine if engine == DEFAULT or why_not(engine) is None else DEFAULT


def _kept(manifest: ModelManifest) -> ServedHere | None:
    place = _place(manifest)
    try:
        if place is None or not place.exists():
            return None
        found = parse_spec(ServedHere, place.read_json(), f"'{place}'")
    except (AgeSearchError, OSError):  # damaged, or not ours to read
        return None
    return found if found.hardware == hardware_name() else None


def _place(manifest: ModelManifest) -> Location | None:
    """The file of this model: of its networks, whatever it is called."""
    cache = machine_cache("engines")
    files = sorted((name, digest) for name, digest in manifest.files.items() if name != "card.md")
    return None if cache is None or not files else cache / f"{digest_of(files)}.json"
