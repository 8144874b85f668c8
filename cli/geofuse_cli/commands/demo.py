"""``geofuse demo``: write a sample scene."""

from __future__ import annotations

import shlex

import click


@click.command(name="demo", short_help="Write a sample scene: a pair, its reference and a cloud mask.")
@click.argument("folder", metavar="DIR", type=click.Path())
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Another seed is another landscape.")
@click.option("--size", type=int, default=384, show_default=True, help="Fine pixels a side: a multiple of 4, 64 to 1024.")
def command(folder: str, seed: int, size: int) -> None:
    """Write a sample scene to DIR: hsi.tif, msi.tif, reference.tif and mask.tif.

    The landscape is made up by the program, the same for the same seed: 201 hyperspectral bands at 30 m, Landsat 8 bands 1-7 at
    7.5 m, and the hyperspectral bands at 7.5 m to compare a result with. Files of these names in DIR are replaced.
    """
    from geofuse.demo import make_demo
    from geofuse.demo.pair import CRS, FINE_M, RATIO

    paths = make_demo(folder, seed=seed, size=size)
    coarse = size // RATIO
    click.echo(f"wrote {paths.hsi}: 201 bands, {coarse} x {coarse} pixels of {FINE_M * RATIO:g} m, {CRS}")
    click.echo(f"wrote {paths.msi}: Landsat 8 bands 1-7, {size} x {size} pixels of {FINE_M:g} m")
    click.echo(f"wrote {paths.reference} and {paths.mask}: the truth at {FINE_M:g} m; 1 = cloud")
    fused = paths.hsi.with_name("fused.tif")
    hsi, msi, out = (shlex.quote(str(path)) for path in (paths.hsi, paths.msi, fused))
    click.echo(f"next: geofuse run {hsi} {msi} --srf landsat8 -o {out}")
