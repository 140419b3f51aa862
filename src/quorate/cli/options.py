"""Options that every flag shares: an environment variable of its own, named by the flag.

`--block-time` is also `QUORATE_BLOCK_TIME`. Precedence: flag, then environment, then the network's
file, then the default.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from quorate.cli.output import fail
from quorate.consensus import ENGINES
from quorate.ledger.keyvalue import ETHEREUM

F = TypeVar("F", bound=Callable[..., Any])

PREFIX = "QUORATE_"


def option(flag: str, *more: str, **attributes: Any) -> Callable[[F], F]:
    """Return a click option whose environment variable is the flag's name."""
    name = flag.split("/")[0].removeprefix("--").replace("-", "_").upper()
    attributes.setdefault("envvar", PREFIX + name)
    attributes.setdefault("show_envvar", True)
    if "default" in attributes:
        attributes.setdefault("show_default", True)
    return click.option(flag, *more, **attributes)


def folder_option(function: F) -> F:
    """Add `--dir`, the network's folder."""
    return option(
        "--dir",
        "folder",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path(".quorate"),
        help="The network's folder.",
    )(function)


def format_option(function: F) -> F:
    """Add `-o json`."""
    return click.option(
        "-o",
        "--output",
        "output",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="How to print the answer.",
    )(function)


def engine_option(function: F) -> F:
    """Add `--engine`; an unknown one is refused before anything is written."""
    return option(
        "--engine",
        type=click.Choice(list(ENGINES)),
        default="tendermint",
        help="How the validators agree.",
    )(function)


def application_option(function: F) -> F:
    """Add `--application`; one that cannot be loaded is refused before anything is written."""
    return option(
        "--application",
        metavar="NAME",
        default=ETHEREUM,
        callback=check_application,
        help="What they agree on: ethereum, keyvalue, or package.module:Class of your own.",
    )(function)


def check_application(_context: click.Context, _parameter: click.Parameter, found: str) -> str:
    """Return the name of an application that can be loaded."""
    if found != ETHEREUM:
        from quorate.ledger.keyvalue import open_machine

        # The validators run in processes of their own, which find what this one finds.
        open_machine(found)
    return found


def yes_option(function: F) -> F:
    """Add `--yes`, which answers the question."""
    return click.option("-y", "--yes", is_flag=True, help="Do not ask.")(function)


def password_options(function: F) -> F:
    """Add `--password-file`; `QUORATE_PASSWORD` may hold the password itself."""
    return option(
        "--password-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        default=None,
        show_default=False,
        help="A file whose first line is the keys' password (or set QUORATE_PASSWORD).",
    )(function)


def read_password(file: Path | None, *, prompt: str | None, confirm: bool = False) -> str | None:
    """Return the password from a file, from QUORATE_PASSWORD, or typed in; None if there is none.

    `prompt=None` never asks.
    """
    if file is not None:
        lines = file.read_text().splitlines()
        if not lines or not lines[0]:
            fail(f"{file}: the first line is empty; write the password there")
        return lines[0]
    from_environment = os.environ.get(PREFIX + "PASSWORD")
    if from_environment:
        return from_environment
    if prompt is None or not sys.stdin.isatty():
        return None
    return str(click.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True))
