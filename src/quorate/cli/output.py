"""What a person sees: data on stdout, everything about it on stderr, one line for an error.

Colour and moving lines appear on a terminal only, and never with NO_COLOR or TERM=dumb.
"""

import os
import shutil
import sys
import time
from typing import Any, NoReturn, TextIO

import click

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_CONFIG = 78
"""EX_CONFIG of sysexits.h: a service manager must not try again."""
EXIT_INTERRUPTED = 130
DEV_WARNING = (
    "DEVELOPMENT CHAIN: whoever reaches these ports may change any balance, code and storage, "
    "send for any account and move time (docs/dev-networks.md)."
)


def get_program() -> str:
    """Return how this command is called here: `quorate`, or the path of a clone's script."""
    return os.environ.get("QUORATE_PROGRAM") or "quorate"


def name_program(text: str) -> str:
    """Write the commands that a message advises in the way they can be typed here."""
    return text.replace("`quorate ", f"`{get_program()} ")


class Problem(click.ClickException):
    """An error whose message is one line that says what was found and what to do next."""

    def __init__(self, message: str, code: int = EXIT_FAILURE) -> None:
        super().__init__(name_program(message))
        self.code = code


def warn_of_engine(name: str, settings: dict[str, Any] | None = None) -> None:
    """Say what an operator has to know of an engine and its settings, on stderr."""
    # Imported when it is needed, so that no command loads the engines only to print.
    from quorate.consensus import ENGINES

    engine = ENGINES.get(name)
    for caution in [] if engine is None else engine.list_cautions(settings or {}):
        say(style(caution, fg="yellow"))


def fail(message: str, code: int = EXIT_FAILURE) -> NoReturn:
    """End the command with one line on stderr."""
    raise Problem(message, code)


def is_terminal(stream: TextIO) -> bool:
    """Whether lines may be coloured and redrawn."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def has_colour(stream: TextIO) -> bool:
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


def style(text: str, stream: TextIO | None = None, **attributes: Any) -> str:
    """Colour text where the stream (stdout unless given) takes it."""
    return click.style(text, **attributes) if has_colour(stream or sys.stdout) else text


def say(message: str = "") -> None:
    """Tell a person something that is not the answer: to stderr, unless --quiet."""
    context = click.get_current_context(silent=True)
    if context is None or not context.find_root().params.get("quiet"):
        click.echo(name_program(message), err=True)


def emit(text: str = "") -> None:
    """Print the answer: to stdout."""
    click.echo(text)


def emit_table(headers: list[str], rows: list[list[str]]) -> None:
    """Print columns, aligned by their widest cell; numbers to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(headers, *rows, strict=True)]
    right = [
        bool(rows) and all(row[i][:1].isdigit() or row[i] == "-" for row in rows)
        for i in range(len(headers))
    ]

    def line(cells: list[str]) -> str:
        padded = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(cells, widths, right, strict=True)
        ]
        return "  ".join(padded).rstrip()

    emit(style(line(headers), bold=True))
    for row in rows:
        emit(line(row))


class Progress:
    """A step of a start and its elapsed time: redrawn on a terminal, elsewhere a line a step."""

    def __init__(self, steps: int) -> None:
        self.steps, self.step = steps, 0
        self.began = time.monotonic()
        self.moving = is_terminal(sys.stderr)
        self.label = ""

    def enter(self, label: str) -> None:
        """Begin the next step."""
        self.end()
        self.step, self.label, self.began = self.step + 1, label, time.monotonic()
        if self.moving:
            self.show("")
        else:
            say(f"[{self.step}/{self.steps}] {label}")

    def show(self, detail: str) -> None:
        """Redraw the step's line with what is happening now."""
        if self.moving:
            elapsed = time.monotonic() - self.began
            line = f"[{self.step}/{self.steps}] {self.label} {detail} ({elapsed:.0f} s)"
            click.echo(
                "\r\x1b[2K" + line[: max(20, (shutil.get_terminal_size().columns or 80) - 1)],
                err=True,
                nl=False,
            )

    def end(self) -> None:
        """Leave the last step's line standing."""
        if self.moving and self.label:
            elapsed = time.monotonic() - self.began
            click.echo(
                f"\r\x1b[2K[{self.step}/{self.steps}] {self.label} ({elapsed:.1f} s)", err=True
            )
        self.label = ""
