"""The page of a comparison: tables and plots in one HTML file that needs nothing else.

As for the diagram of a run, data is JSON that ends no script, the page writes it as text only, and
its policy lets no script run but its own.
"""

from importlib.resources import files
from typing import Any

from quorate.simulator.diagram import encode_data, fill, hash_source

__all__ = ["make_page"]

SCRIPTS = ("plot.js", "tables.js", "main.js")
"""In the order in which they need each other."""


def make_page(document: dict[str, Any]) -> str:
    """Return the page of a document of `Comparison.make_document`."""
    page = files(__package__) / "page"
    style = (page / "page.css").read_text(encoding="utf-8")
    parts = [(page / name).read_text(encoding="utf-8") for name in SCRIPTS]
    script = f'"use strict";\n(() => {{\n{"".join(parts)}\n}})();'
    return fill(
        (page / "page.html").read_text(encoding="utf-8"),
        {
            "STYLE": style,
            "STYLE_HASH": hash_source(style),
            "SCRIPT": script,
            "SCRIPT_HASH": hash_source(script),
            "DATA": encode_data(document),
        },
    )
