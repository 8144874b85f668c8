"""``.fusion`` on a pair and on a scene: lazy, georeferenced, and the same values as the file that ``geofuse run`` writes."""

import dask
import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr

import geofuse
from geofuse.errors import InputError, UnknownNameError, UsageError
from geofuse.scene import provenance_of


def open_pair(job):
    return geofuse.open_pair(job.hsi_path, job.msi_path, srf=job.camera, psf="box")


@pytest.mark.parametrize("method", ["subspace", "bicubic"])
@pytest.mark.parametrize("tile", [512, 32])
def test_the_accessors_result_is_the_files(job, fuse, method, tile):
    job.hsi[:, 3, 4] = job.msi[:, 50:, 70:] = np.nan
    expected = fuse(job.write(), "--dtype", "float32", "--tile", tile, method=method)
    found = getattr(open_pair(job).fusion, method)(tile=tile)
    np.testing.assert_allclose(found.values, expected.stored, rtol=2e-5, atol=1e-6)
    assert found.rio.transform() == expected.profile["transform"] and found.rio.crs == expected.profile["crs"]


def test_tiles_smaller_than_the_blend_reaches_give_the_same_values(job):
    from geofuse.fusion import Fusion, FusionSettings

    pair, cut = open_pair(job), {"tile": 16, "overlap": 64}
    fusion = Fusion(pair, FusionSettings("bicubic", **cut))
    fusion.fit()
    expected = np.concatenate([values for _, values in fusion.rows()], axis=1)
    np.testing.assert_allclose(pair.fusion.bicubic(**cut).values, expected, rtol=1e-5)


def test_the_result_is_a_lazy_scene_with_the_hsis_bands_on_the_msis_grid(job, make):
    pair = open_pair(job)
    fused = pair.fusion.subspace(tile=32)
    assert dask.is_dask_collection(fused.data) and len(fused.chunks[1]) == 2 and fused.dtype == np.float32
    assert fused.dims == ("band", "y", "x") and fused.shape == (41, 64, 80)
    np.testing.assert_allclose(fused.wavelength, make.NM, atol=1e-3)
    np.testing.assert_allclose(fused.fwhm, 11.23)
    assert fused.rio.crs.to_epsg() == 32633 and fused.rio.transform() == make.north_up(make.FINE_M)
    np.testing.assert_array_equal(fused.x, pair.x)
    np.testing.assert_array_equal(fused.y, pair.y)


def test_nothing_is_computed_before_a_value_is_asked_for_and_only_the_tiles_it_needs(job, monkeypatch):
    from geofuse.pipeline import Fusion

    learnt, tiles = [], []
    fit, fuse = Fusion.fit, Fusion.fuse
    monkeypatch.setattr(Fusion, "fit", lambda self, *a: (learnt.append(1), fit(self, *a))[1])
    monkeypatch.setattr(Fusion, "fuse", lambda self, tile, *a: (tiles.append(tile.index), fuse(self, tile, *a))[1])
    fused = open_pair(job).fusion.subspace(tile=16)
    assert not learnt and not tiles
    fused[:, :4, :4].compute()
    assert learnt == [1] and set(tiles) <= {0, 1, 5, 6}
    fused.compute()
    assert len(set(tiles)) == 20


def test_a_scene_has_the_same_methods_as_a_pair(job):
    hsi, msi = geofuse.open_scene(job.hsi_path), geofuse.open_scene(job.msi_path)
    found = hsi.fusion.subspace(msi, srf=job.camera, psf="box")
    np.testing.assert_array_equal(found.values, open_pair(job).fusion.subspace().values)
    assert hsi.fusion.bicubic(msi, srf=job.camera, msi_bands="blue,green,red,nir").shape == found.shape


def test_argsdiff_runs_from_the_accessor_with_its_own_options(job, psnr):
    quick = {"spatial_steps": 12, "spectral_steps": 12, "width": 8, "symmetries": 1}
    fused = open_pair(job).fusion.argsdiff(**quick)
    assert psnr(job.truth, fused.values) > psnr(job.truth, open_pair(job).fusion.bicubic().values)


def test_a_pair_from_arrays_alone_is_fused(job, make, psnr):
    import dask.array as da

    from geofuse.scene import BandMetadata

    unknown = BandMetadata.unknown(4)
    bands = BandMetadata(make.NM, make.FWHM, np.ones(41, bool), tuple(f"b{i}" for i in range(41)))
    hsi = geofuse.make_scene(da.from_array(job.hsi), bands, make.north_up(30.0), make.CRS)
    msi = geofuse.make_scene(da.from_array(job.msi), unknown, make.north_up(7.5), make.CRS)
    fused = hsi.fusion.subspace(msi, srf=job.camera, psf=geofuse.Psf("box"))
    assert psnr(job.truth, fused.values) > 30


def test_a_fused_scene_survives_selection_and_a_trip_through_a_file(job, tmp_path):
    from geofuse.io import open_scene, write_scene

    fused = open_pair(job).fusion.subspace()
    part = fused.isel(band=slice(3, 8))
    write_scene(part, tmp_path / "part.tif", dtype="float32")
    back = open_scene(tmp_path / "part.tif")
    np.testing.assert_array_equal(back.values, part.values)
    np.testing.assert_allclose(back.wavelength, part.wavelength, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"preset": "fast"}, UsageError, "no preset 'fast'"),
        ({"rnk": 3}, UsageError, "no option 'rnk'"),
        ({"device": "abacus"}, UsageError, "unknown device"),
        ({"tile": -4}, UsageError, "tile"),
    ],
)
def test_wrong_options_are_refused_at_the_call(job, options, error, words):
    with pytest.raises(error, match=words):
        open_pair(job).fusion.subspace(**options)


def test_an_unknown_method_is_refused(job):
    with pytest.raises(UnknownNameError, match="did you mean subspace"):
        open_pair(job).fusion.fuse("subspac")


def test_a_dataset_that_is_no_pair_is_refused(job):
    with pytest.raises(InputError, match="geofuse.open_pair"):
        open_pair(job).drop_vars("response").fusion.subspace()


def test_a_pair_in_memory_fuses_like_a_lazy_one(job):
    pair = open_pair(job)
    np.testing.assert_array_equal(pair.compute().fusion.subspace().values, pair.fusion.subspace().values)


def test_the_order_of_dimensions_does_not_matter(job):
    hsi, msi = geofuse.open_scene(job.hsi_path), geofuse.open_scene(job.msi_path)
    fused = hsi.transpose("y", "x", "band").fusion.subspace(msi.transpose("x", "y", "band"), srf=job.camera, psf="box")
    np.testing.assert_array_equal(fused.values, open_pair(job).fusion.subspace().values)


def test_no_data_that_rioxarray_leaves_as_numbers_is_no_data(job, make):
    job.hsi[:, :4, :5] = job.msi[:, 50:, 70:] = np.nan
    job.write()
    hsi, msi = (rioxarray.open_rasterio(path) for path in (job.hsi_path, job.msi_path))
    assert hsi.dtype == msi.dtype == np.int16 and hsi.rio.nodata == make.NODATA
    fused = hsi.assign_coords(wavelength=("band", make.NM)).fusion.subspace(msi, srf=job.camera, psf="box")
    expected = open_pair(job).fusion.subspace().values
    np.testing.assert_allclose(fused.values * make.SCALE, expected, rtol=0.02, atol=0.002)
    assert np.isnan(expected).any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda msi: msi.values, "the MSI is a ndarray; expected an xarray.DataArray"),
        (lambda msi: msi.attrs["source"], "the MSI is a str; .*open_scene"),
        (lambda msi: msi.isel(band=0), "expand_dims"),
        (lambda msi: msi.rename(y="lat"), "rename or select its dimensions"),
    ],
)
def test_what_is_no_scene_is_refused(job, change, words):
    hsi, msi = geofuse.open_scene(job.hsi_path), geofuse.open_scene(job.msi_path)
    with pytest.raises(InputError, match=words):
        hsi.fusion.subspace(change(msi), srf=job.camera)


def test_a_raster_that_rioxarray_writes_declares_the_no_data(job):
    job.msi[:, 50:, 70:] = np.nan
    fused = open_pair(job.write()).fusion.subspace()
    fused.rio.to_raster(job.folder / "fused.tif")
    with rasterio.open(job.folder / "fused.tif") as dataset:
        assert (
            np.isnan(dataset.nodata) and (dataset.read_masks(1)[50:, 70:] == 0).all() and dataset.transform == fused.rio.transform()
        )


def test_what_made_a_result_goes_along_wherever_xarray_writes_it(job, tmp_path):
    fused = open_pair(job).fusion.bicubic()
    told = provenance_of(fused.attrs)
    assert told["GEOFUSE_METHOD"] == "bicubic"
    fused.to_netcdf(tmp_path / "fused.nc", engine="scipy")
    with xr.open_dataset(tmp_path / "fused.nc", engine="scipy") as back:
        assert provenance_of(back["fused"].attrs) == told
        np.testing.assert_array_equal(back["fused"], fused)
    fused.rio.to_raster(tmp_path / "fused.tif")
    assert provenance_of(geofuse.open_scene(tmp_path / "fused.tif").attrs) == told
