"""The same modules, compiled: which they are, whether they are fresh, and how they are taken.

`quorate compile` turns modules of the node and the simulator into machine code by mypyc. They
behave as their sources do, event by event, and take little more than half the time. Nothing depends
on them: without them, or with `QUORATE_COMPILED=0`, the sources are interpreted.

They lie in a cache of the user, in a folder that is named after everything they depend on: all
sources, this Python, this kind of machine. Whoever changes a source has none, until the next
`quorate compile`; stale ones are never taken.
"""

import hashlib
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from pathlib import Path
from types import ModuleType

__all__ = [
    "SUFFIX",
    "VARIABLE",
    "Sources",
    "compute_key",
    "describe",
    "find",
    "get_cache",
    "is_used",
    "read_sources",
    "take",
    "use",
]

VARIABLE = "QUORATE_COMPILED"
"""0: never take compiled modules; 1: take fresh ones from the first import on."""
PACKAGE = Path(__file__).resolve().parent
SUFFIX: str = sysconfig.get_config_var("EXT_SUFFIX") or ".so"
LAYERS = (
    *("base", "crypto", "consensus", "ledger", "storage", "node", "light"),
    *("simulator", "runtime", "rpc"),
)
"""What compiled modules may know of: no other source can change what they do."""
SHORTCUTS = PACKAGE / "cli" / "shortcuts.h"
"""Included before what mypyc makes of each module."""
COMPLETE = "complete"
"""A file that the folder of a finished build holds."""

Sources = dict[str, bytes]
"""What the files of `LAYERS` hold, by their path below the package, in order."""


def read_sources(package: Path = PACKAGE) -> Sources:
    """Return all sources that compiled modules may depend on."""
    found = [
        path for layer in LAYERS for path in (package / layer).rglob("*") if path.suffix == ".py"
    ]
    found += package.glob("*.pyi")
    return {path.relative_to(package).as_posix(): path.read_bytes() for path in sorted(found)}


def compute_key(sources: Sources) -> str:
    """Return the name of what is compiled from these sources for this Python."""
    digest = hashlib.blake2b(digest_size=12)
    files = (Path(__file__), PACKAGE / "cli" / "selection.py", SHORTCUTS)
    own = [path.read_bytes() for path in files]
    for part in (*own, sys.version.encode(), SUFFIX.encode(), sysconfig.get_platform().encode()):
        digest.update(b"%d\0" % len(part) + part)
    for name, text in sources.items():
        digest.update(b"%s\0%d\0" % (name.encode(), len(text)) + text)
    return digest.hexdigest()


# ---- where it is


def get_cache() -> Path:
    """Return the folder of all builds."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home) / "quorate" / "compiled"


def find(key: str) -> Path | None:
    """Return the folder of the finished build of this name.

    One that somebody else owns or could write to is none: what lies there would run with the keys
    of a validator.
    """
    folder = get_cache() / key
    if not (folder / COMPLETE).exists():
        return None
    facts = folder.stat()
    is_ours = facts.st_uid in (0, os.geteuid()) and not facts.st_mode & 0o022
    return folder if is_ours else None


# ---- taking it


class Finder(MetaPathFinder):
    """Finds the modules of one build before their sources are."""

    def __init__(self, folder: Path) -> None:
        self.files = {
            path.relative_to(folder).as_posix().removesuffix(SUFFIX).replace("/", "."): str(path)
            for path in folder.rglob("*" + SUFFIX)
        }

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        file = self.files.get(fullname)
        if file is None:
            return None
        loader = ExtensionFileLoader(fullname, file)
        return importlib.util.spec_from_file_location(fullname, file, loader=loader)


def get_finders() -> Iterator[Finder]:
    return (finder for finder in sys.meta_path if isinstance(finder, Finder))


def is_used() -> bool:
    """Whether this process takes compiled modules."""
    return next(get_finders(), None) is not None


def take(folder: Path) -> bool:
    """Take the modules of a build from now on; whether it does.

    Does nothing once one of them was imported from its source: all of them or none.
    """
    finder = Finder(folder)
    if is_used() or any(name in sys.modules for name in finder.files):
        return is_used()
    sys.meta_path.insert(0, finder)
    return True


def use() -> bool:
    """Take compiled modules from now on, here and in processes started from here, if there are
    fresh ones and they are wanted; whether it does.
    """
    if os.environ.get(VARIABLE) == "0" or not get_cache().is_dir():
        return False
    folder = find(compute_key(read_sources()))
    if folder is None or not take(folder):
        return False
    os.environ[VARIABLE] = "1"
    return True


def describe() -> str:
    """Return in a few words whether modules are compiled, and what to do if not."""
    if is_used():
        return "compiled"
    if os.environ.get(VARIABLE) == "0":
        return f"interpreted, as {VARIABLE}=0 asks"
    if any(get_cache().glob("*/" + COMPLETE)):
        return "interpreted, since what was compiled is of other sources: `quorate compile`"
    return "interpreted; `quorate compile` makes it nearly twice as fast"
