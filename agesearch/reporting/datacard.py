"""The data card: one self-contained HTML page that shows what a dataset holds and what was left out.

Opens with no network: faces are embedded, the charts are plain HTML bars. Every value is escaped, since names
and paths come from the source.
"""

from __future__ import annotations

import base64

import jinja2

from agesearch.data.inspect import Inspection, faces_by_decade, inspect_dataset
from agesearch.data.records import Split
from agesearch.storage import Location

#: Faces of one decade on the contact sheet.
FACES_A_DECADE = 24


def write_datacard(
    dataset: str | Location, page: str | Location, *, faces: int = FACES_A_DECADE
) -> Inspection:
    """Write the card of ``dataset`` to the file ``page``; returns what it tells."""
    found = inspect_dataset(dataset)
    Location.of(page).write_text(render_datacard(found, _sheet(dataset, faces)))
    return found


def render_datacard(found: Inspection, sheet: list[dict[str, object]]) -> str:
    """The page as text; ``sheet`` is a list of decades, each with its faces as data URIs."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("agesearch.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("datacard.html.j2")
    tallest = max((sum(counts.values()) for counts in found.ages.values()), default=0)
    return template.render(
        found=found,
        manifest=found.manifest,
        splits=[split.value for split in Split],
        tallest=max(tallest, 1),
        groups=[("Source", found.sources), ("Sex", found.sexes), ("Ethnicity", found.ethnicities)],
        left_out=sum(item.count for item in found.left_out),
        sheet=sheet,
    )


def _sheet(dataset: str | Location, each: int) -> list[dict[str, object]]:
    return [
        {
            "name": name,
            "faces": [
                {
                    "uri": "data:image/jpeg;base64," + base64.b64encode(face.image).decode("ascii"),
                    "age": "" if face.age is None else str(int(face.age)),
                    "split": face.split,
                    "source": face.source,
                    "sample_id": face.sample_id,
                }
                for face in faces
            ],
        }
        for name, faces in faces_by_decade(dataset, each).items()
    ]
