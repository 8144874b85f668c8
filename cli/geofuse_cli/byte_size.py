"""The type of options that take an amount of memory."""

from __future__ import annotations

import re

import click

_FACTORS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


class ByteSize(click.ParamType):
    """A number of bytes with a unit, such as ``4GiB``, ``800 MB`` or ``1.5G``."""

    name = "size"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Turn the text into bytes."""
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([kmgt]i?)?b?", value.strip().lower())
        if not found or float(found[1]) == 0:
            self.fail(f"{value!r} is not an amount of memory; write it like 4GiB or 800MB", param, ctx)
        return int(float(found[1]) * _FACTORS[found[2] or ""])
