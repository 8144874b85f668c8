"""Claims about the pair."""

import numpy as np
import pytest
import rioxarray  # noqa: F401
from affine import Affine
from rasterio.warp import transform as transform_points

from geofuse.align import make_pair
from geofuse.degradation import SpatialOperator
from geofuse.sensors import Psf, load_response

COORDS = {"wavelength", "fwhm", "good_band", "band_name", "msi_band_name", "y", "x", "y_hsi", "x_hsi", "spatial_ref"}


def test_a_pair_on_nested_grids_is_the_scenes_themselves(build, rgb):
    hsi, msi = build.hsi(source="hsi.tif", stored_dtype="int16", stored_scale=1e-4), build.msi(source="msi.tif")
    pair = make_pair(hsi, msi, srf=rgb)
    assert pair.hsi.dims == ("band", "y_hsi", "x_hsi") and pair.msi.dims == ("band_msi", "y", "x")
    assert pair.response.dims == ("band_msi", "band") and pair.response.dtype == np.float64
    assert COORDS <= set(pair.coords)
    assert pair.hsi.dtype == pair.msi.dtype == np.float32
    assert np.array_equal(pair.hsi.values, hsi.values) and np.array_equal(pair.msi.values, msi.values)
    assert np.array_equal(pair.wavelength.values, build.wavelengths)
    assert np.allclose(pair.response.values.sum(axis=1), 1)
    assert pair.rio.crs.to_epsg() == 32633
    assert pair.msi.rio.transform() == msi.rio.transform()
    attrs = pair.attrs
    assert attrs["ratio"] == 4 and attrs["output_window"] == (0, 48, 0, 40)
    assert Affine(*attrs["output_transform"]) == msi.rio.transform()
    assert (attrs["hsi_source"], attrs["msi_source"]) == ("hsi.tif", "msi.tif")
    assert (attrs["stored_dtype"], attrs["stored_scale"]) == ("int16", 1e-4)
    assert attrs["srf"] == load_response(rgb).title and attrs["srf_source"] == load_response(rgb).source
    assert all(isinstance(note, str) and "\n" not in note for note in attrs["notes"])


def test_coarse_coordinates_are_the_centres_of_blocks_of_fine_ones(build, rgb):
    pair = make_pair(build.hsi(), build.msi(), srf=rgb)
    assert np.allclose(pair.y_hsi.values, pair.y.values.reshape(-1, 4).mean(axis=1), atol=1e-6)
    assert np.allclose(pair.x_hsi.values, pair.x.values.reshape(-1, 4).mean(axis=1), atol=1e-6)


def test_a_partial_overlap_keeps_whole_coarse_pixels_and_pads_with_no_data(build, rgb):
    # The coarse grid starts 10 rows above and 6 columns left of the MSI (cut pixels) and ends inside it.
    hsi, msi = build.hsi(height=10, width=8, x=300000 - 60.0, y=4000000 + 100.0), build.msi()
    pair = make_pair(hsi, msi, srf=rgb)
    assert pair.attrs["output_window"] == (2, 32, 2, 28)
    assert dict(pair.msi.sizes) == {"band_msi": 3, "y": 32, "x": 28}
    assert dict(pair.hsi.sizes) == {"band": 30, "y_hsi": 8, "x_hsi": 7}
    values = pair.msi.values
    assert np.isnan(values[:, :2]).all() and np.isnan(values[:, :, :2]).all()
    assert np.array_equal(values[:, 2:, 2:], msi.values[:, :30, :26])
    assert np.array_equal(pair.hsi.values, hsi.values[:, 2:10, 1:8])
    assert Affine(*pair.attrs["output_transform"]) == msi.rio.transform()
    assert np.allclose(pair.y.values[2:], msi.y.values[:30]) and np.allclose(pair.x.values[2:], msi.x.values[:26])
    assert any("30 x 26 of the MSI's 48 x 40 pixels" in note for note in pair.attrs["notes"])


def test_every_fine_pixel_lies_in_the_coarse_pixel_that_holds_its_place(build, rgb):
    rng = np.random.default_rng(4)
    msi = build.msi(height=61, width=53)
    for _ in range(15):
        row, col = (int(v) for v in rng.integers(-9, 20, 2))
        hsi = build.hsi(height=11, width=9, x=300000 + 10.0 * col, y=4000000 - 10.0 * row)
        pair = make_pair(hsi, msi, srf=rgb)
        upsampled = pair.hsi.values.repeat(4, axis=1).repeat(4, axis=2)
        row0, row1, col0, col1 = pair.attrs["output_window"]
        for i, j in ((row0, col0), (row1 - 1, col1 - 1)):
            expected = hsi.sel(x=float(pair.x[j]), y=float(pair.y[i]), method="nearest").values
            assert np.array_equal(upsampled[:, i, j], expected)
            expected = msi.sel(x=float(pair.x[j]), y=float(pair.y[i]), method="nearest").values
            assert np.array_equal(pair.msi.values[:, i, j], expected)


def field(x, y):
    return 0.5 + 0.2 * np.sin((x - 300000) / 320) * np.cos((y - 4000000) / 350)


@pytest.mark.parametrize(
    ("crs", "size", "why"),
    [
        ("EPSG:32633", 35.0, "3.5 x 3.5 times"),
        ("EPSG:32634", 40.0, "its CRS is EPSG:32634"),
        ("EPSG:4326", 0.0004, "its CRS is EPSG:4326"),
    ],
)
def test_other_grids_are_reached_with_one_warp_of_the_coarse_image(build, rgb, crs, size, why):
    msi = build.msi(height=120, width=120)
    (x0,), (y0,) = transform_points("EPSG:32633", crs, [299605.0], [4000402.5])
    transform = build.north_up(x0, y0, size)
    cols, rows = np.meshgrid(np.arange(60) + 0.5, np.arange(60) + 0.5)
    x, y = transform_points(crs, "EPSG:32633", *(transform @ (cols.ravel(), rows.ravel())))
    values = np.repeat(field(np.array(x), np.array(y)).reshape(1, 60, 60), 30, axis=0)
    pair = make_pair(build.scene(values, transform, crs, build.wavelengths), msi, srf=rgb)
    (note,) = [note for note in pair.attrs["notes"] if "warped once" in note]
    assert why in note
    assert pair.attrs["ratio"] == 4
    row0, row1, col0, col1 = pair.attrs["output_window"]
    assert np.array_equal(pair.msi.values[:, row0:row1, col0:col1], msi.values)
    assert Affine(*pair.attrs["output_transform"]) == msi.rio.transform()
    assert pair.sizes["y"] == 4 * pair.sizes["y_hsi"] and pair.sizes["x"] == 4 * pair.sizes["x_hsi"]
    expected = field(*np.meshgrid(pair.x_hsi.values, pair.y_hsi.values))
    assert np.abs(pair.hsi.values - expected).max() < 5e-4


def test_a_grid_that_is_off_by_part_of_a_fine_pixel_moves_the_psf_and_resamples_nothing(build, rgb):
    """H of the fine image then is the coarse one as it was taken, and the image is as it was."""
    fine = np.random.default_rng(0).normal(size=(1, 120, 120))
    for _ in range(12):  # smooth, so that it can be read between its pixels
        fine = (fine + np.roll(fine, 1, 1) + np.roll(fine, 1, 2) + np.roll(fine, (1, 1), (1, 2))) / 4
    spectrum = np.fft.fft2(fine[0])
    ky, kx = np.fft.fftfreq(120)[:, None], np.fft.fftfreq(120)[None, :]
    moved = np.fft.ifft2(spectrum * np.exp(2j * np.pi * (0.4 * ky - 0.25 * kx))).real
    coarse = SpatialOperator(Psf("gaussian", 1.0), 4, 120, 120).forward(moved)
    hsi = build.scene(
        np.repeat(coarse[None], 30, axis=0), build.north_up(300000 - 2.5, 4000000 - 4, 40), wavelengths=build.wavelengths
    )
    msi = build.scene(np.repeat(fine, 3, axis=0), build.north_up(300000, 4000000, 10))
    pair = make_pair(hsi, msi, srf=rgb, psf="gaussian:1.0")
    assert np.array_equal(pair.hsi.values, hsi.values.astype(np.float32))
    assert any("0.25 (x) and 0.4 (y) fine pixels off the MSI's; the PSF is moved" in note for note in pair.attrs["notes"])
    padded = np.nan_to_num(pair.msi.values)
    misfit = (SpatialOperator(Psf.from_tag(pair.attrs["psf"]), 4, *padded.shape[1:]).forward(padded) - pair.hsi.values[:3])[
        :, 3:-3, 3:-3
    ]
    assert misfit.std() < 0.003 * coarse.std()


def test_bands_without_data_are_left_out_and_said_so(build, rgb):
    values = build.hsi().values.copy()
    values[[2, 3, 4, 20]] = np.nan
    values[7, :5] = np.nan
    hsi = build.scene(values, build.north_up(300000, 4000000, 40), wavelengths=build.wavelengths)
    pair = make_pair(hsi, build.msi(), srf=rgb, min_coverage=0.5)
    kept = np.setdiff1d(np.arange(30), [2, 3, 4, 20])
    assert np.array_equal(pair.band.values, kept + 1)
    assert np.array_equal(pair.wavelength.values, build.wavelengths[kept])
    assert np.array_equal(pair.hsi.values, values[kept], equal_nan=True)
    assert pair.response.shape == (3, 26)
    assert any("bands 3-5, 21, without any data (26 of 30 bands stay)" in note for note in pair.attrs["notes"])


def test_the_bands_of_the_msi_are_matched_and_put_in_the_order_of_the_response(build, rgb):
    msi = build.msi(names=["red", "green", "blue"])
    pair = make_pair(build.hsi(), msi, srf=rgb)
    peaks = pair.wavelength.values[pair.response.values.argmax(axis=1)]
    wanted = {"blue": 450, "green": 550, "red": 650}
    for k, name in enumerate(pair.msi_band_name.values):
        assert abs(peaks[k] - wanted[name]) <= 10
        number = int(pair.band_msi[k])
        assert np.array_equal(pair.msi.values[k], msi.values[number - 1])
    some = make_pair(build.hsi(), msi, srf=load_response(rgb), msi_bands="green, red")
    assert sorted(some.msi_band_name.values) == ["green", "red"]


def test_south_up_and_mirrored_scenes_are_put_north_up(build, rgb):
    hsi, msi = build.hsi(), build.msi()
    expected = make_pair(hsi, msi, srf=rgb)
    south_up = build.scene(msi.values[:, ::-1], Affine(10, 0, 300000, 0, 10, 4000000 - 480))
    mirrored = build.scene(hsi.values[:, :, ::-1], Affine(-40, 0, 300400, 0, -40, 4000000), wavelengths=build.wavelengths)
    pair = make_pair(mirrored, south_up, srf=rgb)
    assert np.array_equal(pair.msi.values, expected.msi.values) and np.array_equal(pair.hsi.values, expected.hsi.values)
    assert pair.attrs["output_transform"] == expected.attrs["output_transform"]
    assert sum("north-up order" in note for note in pair.attrs["notes"]) == 2


def test_a_scene_sliced_by_hand_lies_where_its_coordinates_say(build, rgb):
    hsi, msi = build.hsi(), build.msi()
    pair = make_pair(hsi.isel(y=slice(3, 9), x=slice(2, 7)), msi, srf=rgb)
    assert np.array_equal(pair.hsi.values, hsi.values[:, 3:9, 2:7])
    assert np.array_equal(pair.msi.values, msi.values[:, 12:36, 8:28])


def test_the_psf_comes_from_the_option_or_the_tags_or_is_assumed(build, rgb):
    recorded = Psf("bicubic")
    tagged = build.hsi(GEOFUSE_PSF=recorded.to_tag())
    for hsi, option, psf, source in (
        (build.hsi(), "auto", Psf("gaussian", 1.0), "assumed"),
        (tagged, "auto", recorded, "recorded"),
        (tagged, "gaussian:1.4", Psf("gaussian", 1.4), "given"),
        (tagged, Psf("box"), Psf("box"), "given"),
    ):
        pair = make_pair(hsi, build.msi(), srf=rgb, psf=option)
        assert Psf.from_tag(pair.attrs["psf"]) == psf
        assert pair.attrs["psf_source"].startswith(source)
        assert any(psf.label in note and source in note for note in pair.attrs["notes"])


def test_wavelengths_given_take_the_place_of_the_scenes_own(build, rgb):
    pair = make_pair(build.hsi(wavelengths=None), build.msi(), srf=rgb, wavelengths=list(build.wavelengths))
    assert np.array_equal(pair.wavelength.values, build.wavelengths)


def test_the_pair_is_lazy_and_reads_one_block_of_the_fine_image(build, rgb):
    hsi, msi = build.hsi(height=300, width=300), build.msi(height=1200, width=1200, chunks=(3, 100, 100))
    seen = []

    def count(block):
        seen.append(block.shape)
        return block

    msi = msi.copy(data=msi.data.map_blocks(count, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32)))
    pair = make_pair(hsi, msi, srf=rgb)
    assert sum(np.prod(shape[1:]) for shape in seen) <= 600 * 600
    assert pair.msi.chunks[0] == (3,) and pair.hsi.chunks[0] == (30,)
    for name in ("y", "x"):
        assert all(size % 4 == 0 for size in pair.chunksizes[name])


def test_real_bands_without_data_are_dropped_from_enmap(shared_data, build):
    import rasterio

    path = shared_data / "enmap-potsdam" / "enmap_potsdam_A_64r_128c.tif"
    with rasterio.open(path) as file:
        values = file.read().astype(np.float32)
        values[values == file.nodata] = np.nan
        nm = [float(file.tags(i)["wavelength"]) for i in file.indexes]
        transform = file.transform
    hsi = build.scene(values, transform, wavelengths=nm)
    msi = build.msi(height=256, width=512, x=transform.c, y=transform.f, size=7.5, n_bands=7)
    pair = make_pair(hsi, msi, srf="landsat8")
    assert pair.sizes["band"] == 218 and not np.isin(np.arange(130, 136), pair.band.values).any()
    assert pair.msi.rio.transform() == Affine(7.5, 0, 365055, 0, -7.5, 5807085)
