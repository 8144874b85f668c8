"""Options that several commands share: one name, one form and one help text each.

Each is a decorator, or makes one where commands differ in the default.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class NameList(click.ParamType):
    """A list of names with commas between them, handed on as a tuple of strings."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Split at the commas; spaces around a name do not matter."""
        if isinstance(value, tuple):
            return value
        names = tuple(name.strip() for name in value.split(","))
        if not all(names):
            self.fail(f"{value!r} has an empty name; write names with commas between them, such as B2,B3,B4", param, ctx)
        return names


class Number(click.FloatRange):
    """A number in a range; ``nan``, which is in none, is refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read the number."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


image_path = click.Path()  # text as given: a pathlib.Path would fold the // of a URL, which then looks like a local file

srf_option = click.option(
    "--srf",
    required=True,
    metavar="NAME|FILE.csv",
    help="Sensor that took the multispectral image ('geofuse srf list' names them), or a table: wavelength_nm, one column a band.",
)

pair_srf_option = click.option(
    "--srf",
    metavar="NAME|FILE.csv",
    help="Sensor that took the multispectral image ('geofuse srf list' names them), or a table: wavelength_nm, one column a band. "
    "'estimate' finds the response from the images, and one panchromatic band without --srf gets it that way as well.",
)

srf_bands_option = click.option(
    "--srf-bands",
    metavar="rgb|FILE.csv",
    help="Between which wavelengths each band lies whose response is estimated: rgb, or a table low_nm, high_nm, one line a band.",
)

response_option = click.option(
    "--response",
    type=click.Path(path_type=Path),
    metavar="FILE.json",
    help="What 'geofuse estimate' has written, in place of --srf and, unless that is given, of --psf.",
)

msi_bands_option = click.option(
    "--msi-bands",
    type=NameList(),
    metavar="B2,B3,...",
    help="The sensor's bands that the multispectral image holds, in the file's order; needed when the file does not say.",
)

min_coverage_option = click.option(
    "--min-coverage",
    type=Number(0.0, 1.0, min_open=True),
    default=0.9,
    show_default=True,
    help="Share of a multispectral band's response that the hyperspectral bands must cover.",
)

wavelengths_option = click.option(
    "--wavelengths",
    type=click.Path(path_type=Path),
    metavar="FILE.csv",
    help="Wavelengths of the hyperspectral bands where the file has none: columns wavelength_nm and, if known, fwhm_nm.",
)


def coregister_option(default: str) -> Decorator:
    """Make ``--coregister``; ``evaluate`` offers ``recorded`` as well."""
    recorded = "recorded: what the fused image's tags record; " if default == "recorded" else ""
    return click.option(
        "--coregister",
        type=click.Choice([*(["recorded"] if recorded else []), "auto", "shift", "affine", "smooth", "itk", "off"]),
        default=default,
        show_default=True,
        help="How to find out from the images how the hyperspectral one lies on the other; what is sure and more than 0.05 of its "
        f"pixels is put right. {recorded}auto: a shift, an affine map or a smooth field, whichever the images support; smooth: the "
        "field if they support one, else as auto; itk: a shift by mutual information, for bands that look unlike (extra [itk]).",
    )


allow_remote_option = click.option("--allow-remote", is_flag=True, help="Accept URLs, /vsi paths and VRT files as input.")

mask_clouds_option = click.option(
    "--mask-clouds/--no-mask-clouds",
    default=True,
    show_default=True,
    help="Whether what a product's own quality layers mark as cloud, cirrus or cloud shadow is no data.",
)

msi_average_option = click.option(
    "--msi-average", type=click.IntRange(1), default=1, show_default=True, help="Average N x N pixels of the MSI first."
)

msi_encoding_option = click.option(
    "--msi-encoding",
    type=click.Choice(["auto", "linear", "srgb"]),
    default="auto",
    show_default=True,
    help="srgb: an 8-bit picture made for display, which is brought back to linear light; auto: if the HSI explains it better so.",
)

radiometry_option = click.option(
    "--radiometry",
    type=click.Choice(["auto", "off"]),
    default="auto",
    show_default=True,
    help="Take out gain and offset of the MSI's bands against what the HSI shows of them, where the images ask for it.",
)

mask_option = click.option(
    "--mask",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Raster that is not 0 where the MSI must not be used (clouds, say); the HSI alone fills those pixels.",
)

change_option = click.option(
    "--change",
    type=click.Choice(["auto", "off"]),
    default="auto",
    show_default=True,
    help="Where the images contradict each other trust the MSI less (clouds, change) or share that between both (parallax).",
)

seed_option = click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the random numbers; same seed, same bytes."
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout instead of text.")

device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="auto|cpu|cuda[:N]",
    help="Where to compute; auto takes the first GPU, else the CPU.",
)


def psf_option(default: str) -> Decorator:
    """Make ``--psf``; ``run`` offers ``auto``, ``simulate`` has no files to look it up or find it in."""
    auto = "auto (what the file's tags record, else gaussian), " if default == "auto" else ""
    auto += "estimate (from the images), " if default in ("auto", "estimate") else ""
    return click.option(
        "--psf",
        default=default,
        show_default=True,
        metavar="KIND",
        help=f"How a coarse pixel weighs the fine ones: {auto}gaussian[:FWHM in coarse pixels], bicubic, box, or a kernel file.",
    )


def pair_options(*, without: tuple[str, ...] = (), coregister: str = "auto", **instead: Decorator) -> Decorator:
    """Add every option that says how two images become a pair.

    The command gets them as one argument, ``pair``: a :class:`geofuse.pipeline.PairOptions`. Those in ``without`` are left out;
    a decorator takes the place of the option it is given for, such as ``psf=psf_option("bicubic")``; ``coregister`` is the default
    of that option.
    """
    options = {
        "srf": pair_srf_option,
        "msi_bands": msi_bands_option,
        "min_coverage": min_coverage_option,
        "psf": psf_option("auto"),
        "coregister": coregister_option(coregister),
        "response": response_option,
        "srf_bands": srf_bands_option,
        "wavelengths": wavelengths_option,
        "msi_average": msi_average_option,
        "msi_encoding": msi_encoding_option,
        "radiometry": radiometry_option,
        "mask": mask_option,
        "change": change_option,
        "mask_clouds": mask_clouds_option,
        "allow_remote": allow_remote_option,
        **instead,
    }
    options = {name: option for name, option in options.items() if name not in without}

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def collected(*args: Any, **values: Any) -> Any:
            from geofuse.pipeline import PairOptions

            pair = PairOptions(**{name: values.pop(name) for name in options})
            return command(*args, pair=pair, **values)

        for option in reversed(options.values()):
            collected = option(collected)
        return collected

    return decorate
