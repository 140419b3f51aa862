"""What the compiler of modules is told (`quorate.compiled`); to an interpreter it means nothing."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr as mypyc_attr
else:

    def mypyc_attr(**attributes):
        """Say something of a class: `allow_interpreted_subclasses`."""
        del attributes
        return lambda kind: kind
