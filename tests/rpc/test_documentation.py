"""The list of methods that users read is the list of methods that are served."""

import re
from pathlib import Path

from quorate.rpc.api import Api
from quorate.rpc.dev import Dev
from quorate.rpc.settings import NAMESPACES, Settings
from rpc.fakes import FakeView

PAGE = Path(__file__).resolve().parents[2] / "docs" / "json-rpc.md"


def test_every_method_is_listed() -> None:
    api = Api(Settings(namespaces=NAMESPACES), "", None, FakeView())  # type: ignore[arg-type]
    api.close()
    rows = re.findall(r"^\| `(\w+)_` \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    listed = {f"{space}_{name}" for space, names in rows for name in re.findall(r"`(\w+)`", names)}
    dev = Dev(api.settings, api.store, api.validator, api.events).methods()
    assert listed | {method.name for method in dev} == set(api.dispatcher.methods)
    assert {space for space, _ in rows} == {*NAMESPACES, "rpc", "erigon"}
