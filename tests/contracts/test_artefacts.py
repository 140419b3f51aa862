"""What is committed is what the compiler makes of the sources."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_committed_artefacts_are_what_the_sources_compile_to(node_modules: Path) -> None:
    node = shutil.which("node")
    if node is None or not (node_modules / "solc").is_dir():
        pytest.skip("needs solc: install Node.js 20, then `npm ci --prefix tests/js`")
    result = subprocess.run(
        [node, str(ROOT / "contracts" / "build.mjs"), "--check"],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert result.returncode == 0, result.stderr
