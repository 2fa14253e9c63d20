"""A Parquet file whose rows hold under the settings they were measured under, and no others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from agesearch.storage import Location

#: Where the file says under which settings its rows were measured.
_SETTINGS = b"agesearch.settings"


@dataclass(frozen=True)
class KeyedTable:
    """The file at ``place``, for the settings that ``key`` is the digest of."""

    place: Location
    key: str

    def rows(self) -> pa.Table | None:
        """The rows that are still good; None where there are none."""
        if not self.place.exists():
            return None
        table = self.place.read_table()
        key_then = (table.schema.metadata or {}).get(_SETTINGS, b"").decode()
        return table if key_then == self.key else None

    def write(self, tables: Sequence[pa.Table]) -> None:
        """Replace the file by these rows, with the settings that they hold under."""
        table = pa.concat_tables(tables, promote_options="default")
        self.place.write_table(table.replace_schema_metadata({_SETTINGS: self.key}))
