"""The results of a campaign in a folder: a table of all runs, a summary, a page to read.

The table is Parquet where pyarrow is installed, and lines of JSON otherwise.
"""

import sys
from pathlib import Path
from typing import Any, Protocol

import msgspec

from quorate.simulator.campaign.report import render_report
from quorate.simulator.campaign.tally import Row

__all__ = ["Results", "open_results"]

ROW_GROUP = 4096
"""Rows that wait to be written together."""


class Table(Protocol):
    """Takes rows."""

    name: str

    def write(self, rows: list[Row]) -> None: ...

    def close(self) -> None: ...


class JsonLines:
    """One line of JSON for each run."""

    name = "runs.jsonl"

    def __init__(self, folder: Path) -> None:
        self.file = (folder / self.name).open("wb")
        self.encode = msgspec.json.Encoder().encode

    def write(self, rows: list[Row]) -> None:
        fields = Row.__struct_fields__
        self.file.writelines(
            self.encode(dict(zip(fields, msgspec.structs.astuple(row), strict=True))) + b"\n"
            for row in rows
        )

    def close(self) -> None:
        self.file.close()


class Parquet:
    """One row for each run; counters are maps from name to number."""

    name = "runs.parquet"

    def __init__(self, folder: Path) -> None:
        """Raises ImportError without pyarrow."""
        import pyarrow
        import pyarrow.parquet

        counts = pyarrow.map_(pyarrow.string(), pyarrow.int64())
        self.schema = pyarrow.schema(
            [
                ("seed", pyarrow.int64()),
                ("verdict", pyarrow.string()),
                ("failure", pyarrow.string()),
                ("message", pyarrow.string()),
                ("digest", pyarrow.string()),
                ("events", pyarrow.int64()),
                ("executed", pyarrow.int64()),
                ("virtual_ns", pyarrow.int64()),
                ("cpu_ns", pyarrow.int64()),
                ("height", pyarrow.int64()),
                ("counters", counts),
                ("sometimes", counts),
            ]
        )
        assert tuple(self.schema.names) == Row.__struct_fields__
        self.make_batch = pyarrow.RecordBatch.from_pylist
        self.writer = pyarrow.parquet.ParquetWriter(
            folder / self.name, self.schema, compression="zstd"
        )

    def write(self, rows: list[Row]) -> None:
        plain = []
        for row in rows:
            values = dict(zip(Row.__struct_fields__, msgspec.structs.astuple(row), strict=True))
            for name in ("counters", "sometimes"):
                values[name] = list(values[name].items())
            plain.append(values)
        self.writer.write_batch(self.make_batch(plain, schema=self.schema))

    def close(self) -> None:
        self.writer.close()


class Results:
    """Where a campaign writes to. Create one with `open_results`."""

    def __init__(self, folder: Path, table: Table, notes: list[str]) -> None:
        self.folder, self.table, self.notes = folder, table, notes
        self.waiting: list[Row] = []

    def add(self, rows: list[Row]) -> None:
        """Take up runs."""
        self.waiting += rows
        if len(self.waiting) >= ROW_GROUP:
            self.flush()

    def flush(self) -> None:
        if self.waiting:
            self.table.write(self.waiting)
            self.waiting = []

    def close(self, document: dict[str, Any]) -> None:
        """Write the summary and the page."""
        self.flush()
        self.table.close()
        encoded = msgspec.json.format(msgspec.json.encode(document))
        (self.folder / "summary.json").write_bytes(encoded + b"\n")
        page = render_report(document)
        (self.folder / "report.html").write_text(page, encoding="utf-8")


def open_results(folder: Path) -> Results:
    """Make the folder and begin its table, in the place of an earlier one. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (Parquet.name, JsonLines.name):
        (folder / name).unlink(missing_ok=True)
    try:
        return Results(folder, Parquet(folder), [])
    except ImportError:
        note = (
            f"pyarrow is not installed: all runs are in {JsonLines.name} as lines of JSON; "
            f"`{sys.executable} -m pip install pyarrow` gives Parquet"
        )
        return Results(folder, JsonLines(folder), [note])
