"""What a band's name says: a number such as 8A, a colour such as near infrared, or nothing.

Files write ``SR_B2``, ``Band 2``, ``B02``, ``band_2 (482 nm)``, ``B2 blue`` or ``Near Infrared (NIR)``; all of it ends here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from geofuse.registry import simplify
from geofuse.sensors.response import ResponseBand

# Colour words and the spellings they go by, in lower-case letters and digits.
_SPELLINGS = {
    "coastal": ("coastalaerosol", "aerosol", "coastalblue", "ultrablue", "deepblue", "violet"),
    "blue": ("blu",),
    "green": ("grn",),
    "greeni": ("green1",),
    "greenii": ("green2",),
    "yellow": (),
    "red": (),
    "rededge": (),
    "rededge1": ("vre1",),
    "rededge2": ("vre2",),
    "rededge3": ("vre3",),
    "nir": ("nearinfrared", "nearir", "infrared"),
    "nir1": ("nearinfrared1", "nearir1"),
    "nir2": ("nearinfrared2", "nearir2"),
    "nir08": ("narrownir", "nirnarrow", "nir8a", "rededge4", "vre4"),
    "watervapour": ("watervapor", "nir09"),
    "swir": ("shortwaveinfrared", "midinfrared", "mir"),
    "swir1": ("shortwaveinfrared1", "swir16"),
    "swir2": ("shortwaveinfrared2", "swir22"),
    "pan": ("panchromatic",),
    "cirrus": (),
    "thermal": ("thermalinfrared", "tir", "lwir"),
    "thermal1": ("thermalinfrared1", "tirs1", "tir1", "lwir11"),
    "thermal2": ("thermalinfrared2", "tirs2", "tir2", "lwir12"),
}
_WORDS = {spelling: word for word, spellings in _SPELLINGS.items() for spelling in (word, *spellings)}
# Single letters and pairs mean a colour only where nothing else is in the name.
_INITIALS = {"c": "coastal", "b": "blue", "g": "green", "y": "yellow", "r": "red", "re": "rededge", "n": "nir", "n2": "nir2"}
_WAVELENGTH = re.compile(
    r"\(?\s*\d+(\.\d+)?(\s*(-|–|to)\s*\d+(\.\d+)?)?\s*(nm|nanomet\w*|um|µm|μm|micromet\w*)\b\s*\)?", re.IGNORECASE
)
_NUMBER = re.compile(r"(?<![a-z0-9])b(?:and)?[ _.\-]*0*(\d{1,2}[a-z]?)(?![a-z0-9])")
_BARE_NUMBER = re.compile(r"0*(\d{1,2}[a-z]?)")
_COUNTED = re.compile(r"(band|layer|channel|b|bd|lyr|ch)?[ _.\-]*0*(\d+)")
# A name with one of these is of a mask or a by-product, whatever else it says ("SR_QA_AEROSOL", "cirrus mask").
_NOT_A_BAND = frozenset("qa pixelqa mask quality flag flags alpha cloud clouds shadow aot scl wvp udm udm1 udm2 fmask dem".split())
_LONGEST = 4  # words in a row that may form one colour: "short wave infrared 1"


@dataclass(frozen=True)
class BandLabel:
    """What a name says: its letters and digits, its band number in lower case (``"8a"``) and its colour word."""

    plain: str
    number: str | None
    word: str | None


def read_label(name: str) -> BandLabel:
    """Take a band's name apart; wavelengths in it are passed over."""
    text = _WAVELENGTH.sub(" ", name.strip().lower()).strip()
    if _NOT_A_BAND.intersection(re.findall(r"[a-z0-9]+", text)):
        return BandLabel(simplify(name), None, None)
    found = _NUMBER.search(text) or _BARE_NUMBER.fullmatch(text)
    return BandLabel(simplify(name), found.group(1) if found else None, _colour(text))


def _colour(text: str) -> str | None:
    """Return the colour word of the longest run of words that spells one."""
    tokens = re.findall(r"[a-z0-9]+", text)
    rest = [token for token in tokens if token not in ("band", "layer", "channel")]
    if len(rest) == 1 and rest[0] in _INITIALS:
        return _INITIALS[rest[0]]
    runs = ("".join(tokens[i : i + n]) for n in range(1, _LONGEST + 1) for i in range(len(tokens) - n + 1))
    spelled = [run for run in runs if run in _WORDS]
    return _WORDS[max(spelled, key=len)] if spelled else None


def only_counts(names: Sequence[str]) -> bool:
    """Tell whether names merely count the file's bands: ``band 1``, ``band 2``, ... (``B1``, ``B2``, ... and bare numbers too)."""
    counted = [_COUNTED.fullmatch(_WAVELENGTH.sub(" ", name.strip().lower()).strip()) for name in names]
    return all(match and int(match.group(2)) == i + 1 for i, match in enumerate(counted))


def numbered_b(names: Sequence[str]) -> bool:
    """Tell whether all names are a plain ``B`` and a number, which is how sensors number their bands and files rarely do."""
    return all(re.fullmatch(r"b0*\d+[a-z]?", name.strip().lower()) for name in names)


def contradicts(label: BandLabel, bands: Sequence[ResponseBand]) -> bool:
    """Tell whether a label that means none of the bands speaks their language: a number or colour where they have such."""
    keys = [_keys(band) for band in bands]
    return bool((label.number and any(key.numbers for key in keys)) or (label.word and any(key.words for key in keys)))


def find_band(label: BandLabel, bands: Sequence[ResponseBand]) -> int | None:
    """Return the position of the band that a label means, or None if there is none or the label is ambiguous.

    The whole name decides first; else the number and the colour, which must not contradict each other.
    """
    keys = [_keys(band) for band in bands]
    same = [i for i, key in enumerate(keys) if label.plain in key.plain]
    if same:
        return same[0]
    number = [i for i, key in enumerate(keys) if label.number in key.numbers] if label.number else []
    colour = [i for i, key in enumerate(keys) if label.word in key.words] if label.word else []
    if len(colour) > 1:
        # Several bands of one colour: without a number it matters only whether they are left out anyway.
        colour = [i for i in colour if i in number] or ([] if any(bands[i].kind == "reflective" for i in colour) else colour[:1])
    if number and colour and number[0] not in colour:
        return None
    return (number or colour or [None])[0]


@dataclass(frozen=True)
class _Keys:
    plain: frozenset[str]
    numbers: frozenset[str]
    words: frozenset[str]


def _keys(band: ResponseBand) -> _Keys:
    labels = [read_label(name) for name in (band.name, *band.aliases)]
    return _Keys(
        frozenset(label.plain for label in labels),
        frozenset(label.number for label in labels if label.number),
        frozenset(label.word for label in labels if label.word),
    )


def join_names(names: Iterable[str]) -> str:
    """Write names as a list for people: ``B1, B2 and B3``."""
    names = list(names)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "none"
