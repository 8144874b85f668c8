"""Collect what GDAL says instead of letting it print: geofuse says it once, in its own error."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

CACHE_BYTES = 64 * 2**20
"""Of GDAL's block cache, which otherwise takes 5 % of the machine's memory: room for a block of all bands of the images we meet."""

os.environ.setdefault("GDAL_CACHEMAX", str(CACHE_BYTES))  # GDAL reads it when it opens its first file
_LOGGERS = ("rasterio._env", "rasterio._err", "rasterio._io", "rasterio._base")


class _Collector(logging.Filter):
    """Takes the records of one thread out of a logger and keeps their text."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.get_ident()
        self.messages: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if record.thread != self.thread:
            return True
        if record.levelno >= logging.WARNING:
            self.messages.append(" ".join(record.getMessage().split()))
        return False


@contextmanager
def collected() -> Iterator[list[str]]:
    """Run GDAL with its messages of this thread going into the list that is yielded, none to the terminal or the log."""
    import rasterio

    collector = _Collector()
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addFilter(collector)
    try:
        with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
            yield collector.messages
    finally:
        for logger in loggers:
            logger.removeFilter(collector)


def cause(error: BaseException, messages: list[str]) -> str:
    """Return what went wrong on one line: the system's own words if GDAL passed them on, else the error's text."""
    texts = [*messages, str(error.__cause__ or ""), str(error)]
    for phrase in ("No space left on device", "File too large", "Permission denied", "Input/output error"):
        if any(phrase.lower() in text.lower() for text in texts):
            return phrase
    return " ".join(str(error.__cause__ or error).split())
