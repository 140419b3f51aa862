"""What a validator writes to its log: one line an event, for people or as JSON.

    2026-11-21 01:30:23.123 INFO    peer connected  peer=validator-2 remote=127.0.0.1:30305

An event is a fixed text; what varies are fields, so that lines can be counted and searched.
"""

import logging
import os
import sys
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import msgspec

from quorate.runtime.config import Log

__all__ = ["LEVELS", "EventLog", "open_log"]

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
MAX_FILE_BYTES = 32 << 20
KEPT_FILES = 2


class EventLog:
    """Called with a level, an event and fields. Thread-safe."""

    __slots__ = ("_logger", "threshold")

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self.threshold = logger.level

    def __call__(self, level: str, event: str, **fields: Any) -> None:
        number = LEVELS[level]
        if number >= self.threshold:
            self._logger.log(number, event, extra={"fields": fields})


def open_log(settings: Log, name: str, file: Path | None = None) -> EventLog:
    """Return the log of one validator, to a file (rotated, bounded) or to stderr."""
    logger = logging.getLogger(f"quorate.{name}")
    logger.propagate = False
    logger.setLevel(LEVELS[settings.level])
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    handler = make_handler(file)
    handler.setFormatter(JsonFormatter(name) if settings.format == "json" else HumanFormatter())
    logger.addHandler(handler)
    return EventLog(logger)


def make_handler(file: Path | None) -> logging.Handler:
    if file is None:
        return logging.StreamHandler(sys.stderr)
    # Created by hand for the permissions: a log may name accounts and peers.
    os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    return RotatingFileHandler(
        file, maxBytes=MAX_FILE_BYTES, backupCount=KEPT_FILES, encoding="utf-8"
    )


def make_plain(value: Any) -> Any:
    """Return a field as people read it: bytes in hexadecimal, floats without noise."""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, list | tuple):
        return [make_plain(item) for item in value]
    if isinstance(value, str | int | bool) or value is None:
        return value
    return str(value)


class HumanFormatter(logging.Formatter):
    """Time, level, event, then `key=value`; always one line, unless a traceback follows."""

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        fields = getattr(record, "fields", {})
        told = " ".join(f"{key}={quote(make_plain(value))}" for key, value in fields.items())
        line = f"{clock}.{int(record.msecs):03} {record.levelname:<7} {record.getMessage()}"
        line = (f"{line}  {told}" if told else line).replace("\n", "\\n")
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (ISO 8601, UTC), level, node, event, then the fields."""

    def __init__(self, node: str) -> None:
        super().__init__()
        self.node = node

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{clock}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "node": self.node,
            "event": record.getMessage(),
        }
        for key, value in getattr(record, "fields", {}).items():
            line[f"{key}_" if key in line else key] = make_plain(value)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def quote(value: Any) -> str:
    text = str(value)
    plain = text and not any(c in text for c in ' "=\n')
    return text if plain else msgspec.json.encode(text).decode()
