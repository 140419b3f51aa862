"""Where the official vectors lie: `QUORATE_VECTORS`, else `../shared/vectors`."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def vectors(name: str) -> Path:
    """Return the folder of one suite, or skip the test with the reason."""
    base = Path(os.environ.get("QUORATE_VECTORS", ROOT.parent / "shared" / "vectors"))
    folder = base / name
    if not folder.is_dir():
        pytest.skip(f"no vectors at {folder}; set QUORATE_VECTORS to the folder that holds {name}")
    return folder
