"""Classes of a user's own, named as `package.module:Class`."""

import importlib
from typing import TypeVar

from quorate.base.errors import Invalid

__all__ = ["load_class"]

T = TypeVar("T")


def load_class(what: str, name: str, base: type[T]) -> type[T]:
    """Import a class that extends `base`. Raises Invalid, which begins with what it is for.

    The module is somebody's own: whatever importing it raises is not a bug of ours.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise Invalid(f"{what} {name!r}: expected package.module:Class")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise Invalid(f"{what} {name!r}: {error}; is it on PYTHONPATH?") from None
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise Invalid(f"{what} {name!r}: its module fails: {reason}") from None
    if not (isinstance(found, type) and issubclass(found, base)):
        raise Invalid(
            f"{what} {name!r}: found {found!r} there, "
            f"expected a class that extends {base.__module__}.{base.__qualname__}"
        )
    return found
