"""What the benches of the service ask, and of which model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from agesearch.bench.serve.load import Order
from agesearch.bench.serve.servers import Server
from agesearch.data.dataset.shards import read_rows
from agesearch.data.images.crop import decode_crop
from agesearch.data.reading.demo_pack import demo_pack
from agesearch.session import LOOPBACK

UNTRAINED = "an untrained lcnet_050 @ 64 px"

PREDICT = "/v1/predict"
#: What is asked: a face crop as it is, and a photograph whose face is to be found.
_CASES = {"whole crop": "whole", "photograph": "detect"}
_PHOTO_SIDES = (960, 1173)


@dataclass(frozen=True)
class AskedImage:
    """An image in a file and the call it is sent to."""

    case: str
    path: str
    file: str


def order_of(server: Server, image: AskedImage, seconds: float, connections: int, rate: float = 0.0) -> Order:
    """What the load tool is to send."""
    path = server.paths.get(image.case, image.path)
    return order_of_files(server, path, [image.file], seconds, connections, rate)


def order_of_files(
    server: Server, path: str, files: list[str], seconds: float, connections: int, rate: float = 0.0
) -> Order:
    """The same for JPEG files that are sent in turn."""
    headers = {**server.headers, "Content-Type": "image/jpeg"}
    return Order(LOOPBACK, server.port, path, headers, files, seconds, connections, rate)


def write_faces(folder: Path, count: int) -> list[str]:
    """Face crops of the package, of all ages, each in a file."""
    images = read_rows(demo_pack(), None, ["sample_id", "image"]).sort_by("sample_id").column("image")
    files = []
    for index in range(count):
        file = folder / f"face-{index}.jpg"
        file.write_bytes(images[index * len(images) // count].as_py())
        files.append(str(file))
    return files


def write_images(folder: Path) -> list[AskedImage]:
    """A face crop of the package, and a photograph of 960 x 1173 with that face large in its middle."""
    rows = read_rows(demo_pack(), None, ["sample_id", "image"]).sort_by("sample_id")
    encoded = rows.column("image")[0].as_py()
    crop = decode_crop(encoded)
    width, height = _PHOTO_SIDES
    photo = np.full((height, width, 3), 128, np.uint8)
    side, left, top = 700, (width - 700) // 2, (height - 700) // 2
    photo[top : top + side, left : left + side] = cv2.resize(
        crop, (side, side), interpolation=cv2.INTER_CUBIC
    )
    noise = np.random.default_rng(0).integers(-6, 7, photo.shape, np.int16)
    photo = np.clip(photo + noise, 0, 255).astype(np.uint8)
    files = {"whole crop": encoded, "photograph": cv2.imencode(".jpg", photo[..., ::-1])[1].tobytes()}
    images = []
    for case, faces in _CASES.items():
        file = folder / f"{faces}.jpg"
        file.write_bytes(files[case])
        images.append(AskedImage(case, f"{PREDICT}?faces={faces}", str(file)))
    return images


def untrained_version(folder: Path) -> str:
    """The folder of a version of a network with random weights: it costs what a trained one does."""
    import torch

    from agesearch.deploy.publish import publish
    from agesearch.models.folder import write_model
    from agesearch.models.manifest import ModelManifest
    from agesearch.models.zoo import build
    from agesearch.specs import NEWEST_CROP_RECIPE, CropSpec, ModelSpec

    torch.manual_seed(0)
    spec = ModelSpec(arch="lcnet_050", input_size=64)
    manifest = ModelManifest(kind="teacher", model=spec, crop=CropSpec(recipe=NEWEST_CROP_RECIPE))
    write_model(str(folder / "model"), build(spec).state_dict(), manifest)
    published = publish(str(folder / "model"), "untrained", str(folder / "registry"), dataset=demo_pack())
    return str(published.version.folder)
