"""``agesearch measure speed``: models timed in turns on every runtime and precision of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agesearch.cli.common import JsonOption, out, print_json, say, shown_progress, table
from agesearch.cli.publish import RegistryOption
from agesearch.metrics import signed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agesearch.measure.speed.comparison import SpeedComparison
    from agesearch.measure.speed.gate import Gate
    from agesearch.measure.speed.rows import Setting

_EXAMPLE = "Example: agesearch measure speed teacher lcnet_035@64 --threads 1"
_MODELS = (
    "Model folders, teachers' documents, studies (their front), NAME, NAME@ALIAS, NAME:VERSION of the "
    "registry, or ARCH@SIZE: an architecture with random weights, such as vgg16@224."
)


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("speed", epilog=_EXAMPLE)(measure_speed)


def measure_speed(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help=_MODELS)],
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            "--runtime", metavar="onnxruntime|openvino|cuda|torch_cuda", help="Default: all that are here."
        ),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option("--precision", metavar="fp32|bf16|int8", help="Default: all that this CPU has."),
    ] = None,
    threads: Annotated[
        list[int] | None, typer.Option("--threads", min=1, max=256, help="Default: 1, and all cores.")
    ] = None,
    batch: Annotated[
        list[int] | None, typer.Option("--batch", min=1, max=1024, help="Default: 1, 8 and 32.")
    ] = None,
    calls: Annotated[int, typer.Option("--calls", min=50, help="Timed calls of one image, at least.")] = 50,
    photo: Annotated[
        str | None,
        typer.Option(
            "--photo", metavar="FILE", help="Photograph to decode and crop; default: a made-up one."
        ),
    ] = None,
    gate: Annotated[
        bool, typer.Option("--gate", help="First judge each engine on the validation faces of --data.")
    ] = False,
    data: Annotated[str | None, typer.Option("--data", help="Dataset for --gate.")] = None,
    max_drop: Annotated[
        float, typer.Option("--max-drop", min=0.001, help="Years of MAE that --gate lets an engine lose.")
    ] = 0.1,
    registry: RegistryOption = "registry",
    as_json: JsonOption = False,
) -> None:
    """Time models in turns by runtime, precision, threads and batch, warm; ratios with intervals.

    The network is timed alone, on a GPU too where there is one (with the way there and back); decoding,
    finding and cutting the face stand apart. Memory is that of a fresh process that opens the network and
    runs it: session, by how much it rose; process, with the runtime. What a runtime computed in another
    precision than it was asked to is said. int8 of a model that has no int8 file is made here for its time
    alone, and nothing is known of its error, unless --gate makes and judges it.
    """
    from agesearch.deploy.speed import speed_of
    from agesearch.errors import InputError

    if gate != (data is not None):
        raise InputError("--gate and --data go together: the engines are judged on the dataset's faces.")
    with shown_progress() as on_progress:
        found = speed_of(
            models,
            registry=registry,
            runtimes=runtime or (),
            precisions=precision or (),
            settings=_settings(threads, batch),
            calls=calls,
            photo=photo,
            gate_on=data,
            max_drop=max_drop,
            on_progress=on_progress,
        )
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        _show(found)


def _settings(threads: list[int] | None, batch: list[int] | None) -> list[Setting]:
    from agesearch.measure.speed.rows import settings

    return settings(tuple(batch or (1, 8, 32)), tuple(threads or ()))


def _show(found: SpeedComparison) -> None:
    out.print(_rows_table(found))
    out.print(_best_table(found))
    if found.ratios:
        out.print(_ratios_table(found))
    out.print(_footprints_table(found))
    for model, gates in found.gates.items():
        out.print(_gates_table(model, gates))
    for model, steps in found.steps.items():
        rows = [[row.step, row.of, _ms(row.latency_ms_p50), _ms(row.latency_ms_p95)] for row in steps]
        out.print(table(f"Before the network of {model}, one thread, ms", ["step", "of", "p50", "p95"], rows))
    for left in found.left_out:
        say(f"{left.model} was not timed on {left.runtime} {left.precision}: {left.reason}.")
    for note in found.notes:
        say(note)
    where = "; ".join([found.hardware, *dict.fromkeys(row.device for row in found.rows if row.device)])
    say(f"{where}; {found.rounds} rounds in turns.")


def _rows_table(found: SpeedComparison) -> object:
    """A row for each model and engine, p50 and p95 for each setting."""
    settings = list(dict.fromkeys(row.setting for row in found.rows))
    lines: dict[tuple[str, str, str, str], dict[Setting, str]] = {}
    for row in found.rows:
        key = (row.model, row.runtime, row.precision, f"{row.layers_as_asked}/{row.layers}")
        words = f"{_ms(row.latency_ms_p50)} ({_ms(row.latency_ms_p95)})"
        lines.setdefault(key, {})[row.setting] = words
    columns = ["model", "runtime", "asked for", "layers so", *map(_setting_words, settings)]
    rows = [[*key, *(cells.get(setting, "-") for setting in settings)] for key, cells in lines.items()]
    optional = [_setting_words(setting) for setting in settings[1:]]
    return table("ms a call, p50 (p95)", columns, rows, optional=["layers so", *optional])


def _best_table(found: SpeedComparison) -> object:
    rows = [
        [
            best.model,
            _words(best.threads, best.batch),
            f"{best.runtime} {best.precision}",
            _ms(best.latency_ms_p50),
            "-" if best.fp32_ms is None else _ms(best.fp32_ms),
            best.answers,
        ]
        for best in found.best
    ]
    columns = ["model", "setting", "best on", "ms", "fp32 ms", "answers"]
    return table("Each model on its best engine", columns, rows, optional=["answers", "fp32 ms"])


def _footprints_table(found: SpeedComparison) -> object:
    from agesearch.measure.speed.footprint import megabytes

    rows = [
        [
            row.model,
            f"{row.runtime} {row.precision}",
            *map(megabytes, (row.file_bytes, row.session_bytes, row.process_bytes)),
        ]
        for row in found.footprints
    ]
    columns = ["model", "on", "file", "session", "process"]
    title = "MB on disk, and of memory at the peak (one face, one thread)"
    return table(title, columns, rows, optional=["process"])


def _gates_table(model: str, gates: Sequence[Gate]) -> object:
    rows = [
        [
            str(gate.engine),
            "-" if gate.drop_years is None else signed(gate.drop_years, 3),
            _range(gate),
            "as good" if gate.holds else f"closed: {gate.reason}",
        ]
        for gate in gates
    ]
    columns = ["engine", "years lost", "95 % interval", "gate"]
    return table(f"Answers of {model} beside fp32, allowed {gates[0].max_drop_years:g} years", columns, rows)


def _range(gate: Gate) -> str:
    if gate.drop_low is None or gate.drop_high is None:
        return "-"
    return f"{signed(gate.drop_low, 3)} to {signed(gate.drop_high, 3)}"


def _ratios_table(found: SpeedComparison) -> object:
    rows = [
        [
            ratio.faster,
            ratio.slower,
            _words(ratio.threads, ratio.batch),
            f"{ratio.times:.3g} x ({ratio.low:.3g}-{ratio.high:.3g})",
        ]
        for ratio in found.ratios
    ]
    title = f"Times as fast, 95 % interval over {found.rounds} rounds"
    return table(title, ["model", "than", "setting", "times"], rows)


def _setting_words(setting: Setting) -> str:
    return _words(setting.threads, setting.batch)


def _words(threads: int, batch: int) -> str:
    return f"{threads} thr, {batch} img"


def _ms(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
