"""Zarr: what is written is what comes back, xarray reads it unaided, and a store that is not what it says is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import geofuse.io.publish as publish_module
from geofuse.errors import InputError, OutputError, UsageError
from geofuse.io import check_output_path, describe, open_scene, open_sink, write_scene
from geofuse.io.sink import choose_driver
from geofuse.io.zarr_sink import chunk_shape
from geofuse.scene import provenance_of

zarr = pytest.importorskip("zarr")
xr = pytest.importorskip("xarray")

FORMS = [
    ("int16", 1e-4, 0.0, -9999.0),
    ("uint16", 2.75e-5, -0.2, 0.0),
    ("float32", 1.0, 0.0, None),
    ("float32", 1.0, 0.0, -1.0),
    ("float64", 0.5, 3.0, None),
]


def random_values(shape=(5, 300, 100), seed=0):
    values = np.random.default_rng(seed).random(shape, dtype=np.float32)
    values[:, 7:11, 3:9] = np.nan
    return values


def write(path, files, values, *, step=64, **form):
    with open_sink(path, files.spec_for(values.shape, **form)) as sink:
        for row in range(0, values.shape[1], step):
            sink.write(values[:, row : row + step], row)
    return path


@pytest.mark.parametrize(("dtype", "scale", "offset", "nodata"), FORMS)
def test_a_round_trip_keeps_values_bands_grid_and_provenance(files, tmp_path, dtype, scale, offset, nodata):
    values = random_values()
    spec = files.spec_for(values.shape, dtype, scale=scale, offset=offset, nodata=nodata)
    path = write(tmp_path / "a.zarr", files, values, dtype=dtype, scale=scale, offset=offset, nodata=nodata)
    scene = open_scene(path)
    step = scale if spec.is_integer else 1e-6
    np.testing.assert_allclose(scene.values, values, atol=step * 0.51 + 1e-7)
    np.testing.assert_array_equal(scene.wavelength, spec.bands.wavelength_nm)
    np.testing.assert_array_equal(scene.fwhm, spec.bands.fwhm_nm)
    np.testing.assert_array_equal(scene.good_band, spec.bands.good_band)
    assert tuple(scene.band_name.values) == spec.bands.band_name
    assert scene.rio.transform() == files.GRID and scene.rio.crs.to_epsg() == 32633
    assert provenance_of(scene.attrs) == spec.tags
    assert scene.attrs["stored_dtype"] == dtype and scene.attrs["stored_scale"] == scale


def test_the_same_rows_give_the_same_values_as_a_cog(files, tmp_path):
    values = random_values()
    form = {"dtype": "int16", "scale": 1e-4, "nodata": -9999.0}
    paths = [write(tmp_path / name, files, values, **form) for name in ("a.zarr", "a.tif")]
    np.testing.assert_array_equal(*(open_scene(path).values for path in paths))


@pytest.mark.parametrize("seed", range(6))
def test_rows_may_come_in_any_order_and_height(files, tmp_path, seed):
    rng = np.random.default_rng(seed)
    values = random_values((int(rng.integers(1, 9)), int(rng.integers(1, 600)), int(rng.integers(1, 300))), seed)
    cuts = np.unique([0, values.shape[1], *rng.integers(0, values.shape[1], 6)])
    pieces = list(zip(cuts[:-1], cuts[1:], strict=True))
    rng.shuffle(pieces)
    with open_sink(tmp_path / "a.zarr", files.spec_for(values.shape)) as sink:
        for start, stop in pieces:
            sink.write(values[:, start:stop], int(start))
    np.testing.assert_array_equal(open_scene(tmp_path / "a.zarr").values, values)


def test_each_chunk_is_written_once(files, tmp_path, monkeypatch):
    from zarr.storage import LocalStore

    written, put = [], LocalStore.set
    monkeypatch.setattr(LocalStore, "set", lambda self, key, value, **kw: (written.append(key), put(self, key, value, **kw))[1])
    write(tmp_path / "a.zarr", files, random_values((17, 520, 260)), step=100)
    chunks = [key for key in written if "image/c/" in key]
    assert len(chunks) == len(set(chunks)) == 2 * 3 * 2


def test_chunks_split_bands_and_stay_small(files):
    for shape, dtype in (
        ((224, 3000, 3000), "int16"),
        ((224, 3000, 3000), "float32"),
        ((3, 50, 40), "uint8"),
        ((500, 9, 9), "float64"),
    ):
        bands, rows, columns = chunk_shape(files.spec_for(shape, dtype))
        assert bands <= shape[0] and rows <= 256 and bands * rows * columns * np.dtype(dtype).itemsize <= 4 * 2**20


def test_xarray_and_rioxarray_find_everything_where_cf_says(files, tmp_path):
    import rioxarray  # noqa: F401

    values = random_values()
    path = write(tmp_path / "a.zarr", files, values, dtype="int16", scale=1e-4, nodata=-9999.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        contents = xr.open_zarr(path)
    image = contents["image"]
    np.testing.assert_allclose(image.values, values, atol=0.51e-4)
    assert image.rio.crs.to_epsg() == 32633 and image.rio.transform() == files.GRID
    assert contents.wavelength.attrs == {"standard_name": "radiation_wavelength", "units": "nm"} and contents.fwhm.units == "nm"
    assert contents.wavelength.dims == ("band",) and set(contents.coords) >= {"wavelength", "fwhm", "good_band", "band_name"}
    held = json.loads((path / "image" / "zarr.json").read_text())
    assert held["attributes"]["grid_mapping"] == "spatial_ref" and held["attributes"]["_FillValue"] == held["fill_value"] == -9999
    assert held["zarr_format"] == 3 and held["dimension_names"] == ["band", "y", "x"]
    mapping = json.loads((path / "spatial_ref" / "zarr.json").read_text())["attributes"]
    assert mapping["crs_wkt"].startswith("PROJCS") and mapping["GeoTransform"] == "365055.0 30.0 0.0 5807085.0 0.0 -30.0"
    assert "NaN" not in (path / "image" / "zarr.json").read_text()


def test_a_scene_that_xarray_wrote_comes_back(files, tmp_path):
    write(tmp_path / "a.tif", files, random_values(), dtype="int16", scale=1e-4, nodata=-9999.0)
    scene = open_scene(tmp_path / "a.tif")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of zarr, on consolidated metadata
        scene.to_zarr(tmp_path / "b.zarr")
        scene.isel(x=slice(20, 60), y=slice(10, 200)).chunk(y=64, x=64).to_zarr(tmp_path / "cut.zarr")
    back, cut = open_scene(tmp_path / "b.zarr"), open_scene(tmp_path / "cut.zarr")
    np.testing.assert_array_equal(back.values, scene.values)
    np.testing.assert_array_equal(back.wavelength, scene.wavelength)
    assert back.rio.transform() == files.GRID and provenance_of(back.attrs) == provenance_of(scene.attrs)
    np.testing.assert_array_equal(cut.values, scene.values[:, 10:200, 20:60])
    assert (cut.rio.transform().c, cut.rio.transform().f) == (files.GRID.c + 20 * 30, files.GRID.f - 10 * 30)  # not the stale one


def test_micrometres_and_coordinates_alone_are_understood(tmp_path):
    y, x = 900.0 - 10 * np.arange(4), 100 + 10 * np.arange(5)
    cube = xr.DataArray(
        np.ones((3, 4, 5), "f4"), dims=("wavelength", "y", "x"), coords={"wavelength": [0.45, 0.55, 0.65], "y": y, "x": x}
    )
    cube.wavelength.attrs["units"] = "um"
    cube.rename("radiance").to_dataset().to_zarr(tmp_path / "a.zarr", consolidated=False)
    scene = open_scene(tmp_path / "a.zarr")
    np.testing.assert_allclose(scene.wavelength, [450, 550, 650])
    assert tuple(scene.rio.transform())[:6] == (10, 0, 95, 0, -10, 905) and scene.rio.crs is None


def test_rotated_grids_and_scenes_without_crs_survive(files, tmp_path):
    from dataclasses import replace

    from affine import Affine

    values = random_values((2, 30, 20))
    for i, (transform, crs) in enumerate([(Affine.rotation(20) @ files.GRID, "EPSG:32633"), (files.GRID, None)]):
        with open_sink(tmp_path / f"{i}.zarr", replace(files.spec_for(values.shape), transform=transform, crs=crs)) as sink:
            sink.write(values, 0)
        scene = open_scene(tmp_path / f"{i}.zarr")
        assert scene.rio.transform().almost_equals(transform) and (scene.rio.crs is None) == (crs is None)


def test_a_scene_is_read_lazily_chunk_by_chunk(files, tmp_path):
    path = write(tmp_path / "a.zarr", files, random_values((5, 700, 600)))
    shutil.rmtree(path / "image" / "c" / "0" / "2")
    meta = path / "image" / "zarr.json"
    meta.write_text(meta.read_text().replace('"geofuse_every_chunk_is_stored": 1,', ""))
    scene = open_scene(path, chunks=256)
    assert scene.attrs["notes"] == ["3 chunks have no file and count as no data (left out because empty, or lost)"]
    assert np.isfinite(scene[:, 300:400, 300:400].values).all() and np.isnan(scene[0, 600, 0].values)


def test_info_tells_form_grid_and_bands(files, tmp_path):
    path = write(tmp_path / "a.zarr", files, random_values((40, 260, 260)), dtype="int16", scale=1e-4, nodata=-9999.0)
    info = describe(path)
    assert (info.driver, info.dtype, info.compression, info.block) == ("Zarr", "int16", "blosc", (256, 256))
    assert info.crs == "EPSG:32633" and info.resolution == (30.0, 30.0) and info.nodata == -9999.0 and info.scale == 1e-4
    assert info.file_bytes == sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    assert "a chunk holds 32 of 40 bands" in info.notes and info.wavelength_source == "coordinate wavelength"


def test_the_driver_follows_the_name(tmp_path):
    assert choose_driver("a.zarr") == "Zarr" and choose_driver("a.tif") == "COG" and choose_driver("a.dat", "ENVI") == "ENVI"
    for path, driver in (("a.zarr", "COG"), ("a.tif", "Zarr")):
        with pytest.raises(UsageError, match="a Zarr store's name ends in .zarr"):
            choose_driver(path, driver)


def test_write_scene_writes_zarr(files, tmp_path):
    write(tmp_path / "a.tif", files, random_values(), dtype="int16", scale=1e-4, nodata=-9999.0)
    write_scene(open_scene(tmp_path / "a.tif"), tmp_path / "b.zarr")
    np.testing.assert_array_equal(open_scene(tmp_path / "b.zarr").values, open_scene(tmp_path / "a.tif").values)


# ---- what is not what it says


def edit(path, change):
    held = json.loads(path.read_text())
    change(held)
    path.write_text(json.dumps(held))


@pytest.fixture
def store(files, tmp_path):
    return write(tmp_path / "a.zarr", files, random_values((5, 300, 100)))


def test_an_incomplete_or_damaged_store_is_refused_in_one_line(store):
    chunk = store / "image" / "c" / "0" / "1" / "0"
    content = chunk.read_bytes()
    chunk.write_bytes(content[: len(content) // 2])
    with pytest.raises(
        InputError, match=r"cannot be read \(chunk c/0/1/0 has .* bytes\); it is damaged: copy or .*again"
    ) as caught:
        open_scene(store).compute(scheduler="sync")
    assert "\n" not in str(caught.value)
    chunk.unlink()
    with pytest.raises(InputError, match="1 chunks of image are missing; copy or download it again"):
        open_scene(store)


@pytest.mark.parametrize(("factor", "units"), [(1, None), (1, "nm"), (1e-3, None), (1e-3, "um")])
def test_a_width_without_a_unit_has_that_of_the_wavelengths(tmp_path, factor, units):
    nm, told = np.array([450.0, 700, 2300]), {"units": units} if units else {}
    coords = {"wavelength": ("band", nm * factor, told), "fwhm": ("band", np.full(3, 11.0) * factor)}
    coords |= {"y": np.arange(6.0), "x": np.arange(5.0)}
    image = xr.DataArray(np.ones((3, 6, 5), "float32"), dims=("band", "y", "x"), coords=coords)
    image.to_dataset(name="image").to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    scene = open_scene(tmp_path / "a.zarr")
    np.testing.assert_allclose(scene.wavelength, nm)
    np.testing.assert_allclose(scene.fwhm, 11)


@pytest.mark.parametrize("kept", [0, 7, 16, 100])
def test_a_chunk_that_is_cut_short_never_reaches_blosc_which_would_read_on(tmp_path, kept):
    xr.Dataset(
        {"image": (("band", "y", "x"), np.ones((2, 40, 30), "int16"))}, {"y": np.arange(40.0), "x": np.arange(30.0)}
    ).to_zarr(
        tmp_path / "a.zarr",
        zarr_format=3,
        consolidated=False,
        encoding={name: {"compressors": (zarr.codecs.BloscCodec(),)} for name in ("image", "x", "y")},
    )
    for chunk in ("image/c/0/0/0", "x/c/0"):
        whole = (tmp_path / "a.zarr" / chunk).read_bytes()
        (tmp_path / "a.zarr" / chunk).write_bytes(whole[:kept] if kept < len(whole) else whole[:-1])
        with pytest.raises(InputError, match="it is damaged"):
            open_scene(tmp_path / "a.zarr").compute(scheduler="sync")
        (tmp_path / "a.zarr" / chunk).write_bytes(whole)
    assert (open_scene(tmp_path / "a.zarr").values == 1).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda h: h.update(shape=[5, 3_000_000, 1_000_000]), "image claims .* GB, which files of .* MB cannot hold"),
        (lambda h: h["chunk_grid"]["configuration"].update(chunk_shape=[5, 30_000, 10_000]), "kept in chunks of 6.0 GB"),
        (
            lambda h: h["codecs"].append({"name": "numcodecs.zlib", "configuration": {}}),
            "needs the codec numcodecs.zlib|cannot be read",
        ),
        (lambda h: h["codecs"].append({"name": "pickle", "configuration": {}}), "cannot be read"),
        (lambda h: h["attributes"].update(scale_factor="one"), "is no number; correct it"),
        (lambda h: h["attributes"].update(scale_factor=0), "scale 0, offset 0; correct"),
        (lambda h: h.update(dimension_names=["y", "x", "band"]), "expected an image of numbers with dimensions|cannot be read"),
        (lambda h: h.pop("data_type"), "expected an image of numbers"),
    ],
)
def test_metadata_that_lie_are_refused_in_one_line(store, change, words):
    edit(store / "image" / "zarr.json", change)
    with pytest.raises(InputError, match=words) as caught:
        open_scene(store)
    assert str(caught.value).startswith(f"{store}: ") and "\n" not in str(caught.value)


def test_other_stores_and_folders_are_refused_with_a_remedy(store, tmp_path):
    for name in ("old", "two", "none.zarr"):
        (tmp_path / name).mkdir()
    (tmp_path / "old" / ".zgroup").write_text('{"zarr_format": 2}')
    with pytest.raises(InputError, match="version 2; expected Zarr version 3: rewrite it with xarray"):
        open_scene(tmp_path / "old")
    with pytest.raises(InputError, match="no Zarr store: it has no zarr.json"):
        open_scene(tmp_path / "none.zarr")
    for remote in ("https://example.org/a.zarr", "s3://bucket/a.zarr"):
        with pytest.raises(InputError, match="allow_remote"):
            open_scene(remote)
    shutil.copytree(store / "image", store / "second")
    with pytest.raises(InputError, match="holds 2 images .image, second.; keep one"):
        open_scene(store)
    cube = np.zeros((4, 5))
    xr.Dataset({"flat": (("y", "x"), cube)}).to_zarr(tmp_path / "flat.zarr", consolidated=False)
    with pytest.raises(InputError, match="holds flat .y, x.; expected an image of numbers"):
        open_scene(tmp_path / "flat.zarr")


def test_links_in_a_store_are_not_followed(store, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    chunk = store / "image" / "c" / "0" / "0" / "0"
    chunk.unlink()
    chunk.symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match="holds a link .0., which is not followed"):
        open_scene(store)


def test_consolidated_metadata_do_not_hide_what_the_arrays_say(store):
    edit(store / "image" / "zarr.json", lambda h: h.update(shape=[5, 3_000_000, 1_000_000]))
    assert "300" in (store / "zarr.json").read_text()  # the copy at the root still has the old shape
    with pytest.raises(InputError, match="cannot hold"):
        open_scene(store)


def test_an_uneven_axis_is_refused(tmp_path):
    y = np.array([0.0, -1.0, -2.0, -4.0])
    cube = xr.DataArray(np.ones((1, 4, 3)), dims=("band", "y", "x"), coords={"y": y, "x": np.arange(3.0)}, name="image")
    cube.to_dataset().to_zarr(tmp_path / "a.zarr", consolidated=False)
    with pytest.raises(InputError, match="y is not evenly spaced"):
        open_scene(tmp_path / "a.zarr")


def test_a_store_that_changed_since_it_was_opened_is_noticed(files, store):
    scene = open_scene(store)
    write(store, files, random_values((5, 300, 100), seed=1))
    with pytest.raises(InputError, match="changed since it was opened"):
        scene.compute(scheduler="sync")


def test_with_allow_remote_a_url_is_opened(store):
    pytest.importorskip("fsspec")
    scene = open_scene(f"file://{store}", allow_remote=True)
    np.testing.assert_array_equal(scene.values, open_scene(store).values)


@pytest.mark.parametrize("module", ["zarr"])
def test_without_zarr_the_error_says_what_to_install(store, tmp_path, files, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=r"pip install 'geofuse\[zarr\]'"):
        open_scene(store)
    with pytest.raises(OutputError, match=r"pip install 'geofuse\[zarr\]'"):
        open_sink(tmp_path / "b.zarr", files.spec_for((1, 2, 3)))


# ---- nothing unfinished at the final path


def test_an_error_midway_leaves_the_old_store(files, store):
    before = open_scene(store).values
    with pytest.raises(KeyboardInterrupt), open_sink(store, files.spec_for((5, 300, 100))) as sink:
        sink.write(random_values((5, 100, 100), seed=3), 0)
        raise KeyboardInterrupt
    np.testing.assert_array_equal(open_scene(store).values, before)
    assert [p.name for p in store.parent.iterdir()] == ["a.zarr"]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_new_store_replaces_the_old_one_as_a_whole(files, store, monkeypatch, can_exchange):
    if not can_exchange:
        monkeypatch.setattr(publish_module, "exchange", lambda one, other: False)
    values = random_values((3, 40, 30), seed=5)
    write(store, files, values)
    np.testing.assert_array_equal(open_scene(store).values, values)
    assert [p.name for p in store.parent.iterdir()] == ["a.zarr"]


def test_where_folders_cannot_be_exchanged_a_failed_rename_brings_the_old_one_back(files, store, monkeypatch):
    before, replace = open_scene(store).values, os.replace

    def fail(source, target):
        if os.fspath(target) == os.fspath(store) and not Path(source).name.startswith("old-"):
            raise OSError(5, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(publish_module, "exchange", lambda one, other: False)
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OutputError, match="Input/output error.*untouched"):
        write(store, files, random_values((3, 40, 30), seed=5))
    np.testing.assert_array_equal(open_scene(store).values, before)


def test_a_flipped_bit_between_writing_and_renaming_is_noticed(files, store, monkeypatch):
    from geofuse.io.zarr_sink import ZarrBody

    before, finish = open_scene(store).values, ZarrBody.finish

    def corrupt(self, sums):
        self._array[2, 123, 45] = -1.0
        finish(self, sums)

    monkeypatch.setattr(ZarrBody, "finish", corrupt)
    with pytest.raises(OutputError, match="1 rows read back differently .*first: row 123"):
        write(store, files, random_values((5, 300, 100), seed=2))
    np.testing.assert_array_equal(open_scene(store).values, before)


def test_only_a_zarr_store_is_ever_replaced(tmp_path, store):
    check_output_path(store)
    (store / "thesis.txt").write_text("all my work")
    (tmp_path / "plain.zarr").mkdir()
    (tmp_path / "file.zarr").write_bytes(b"x")
    for path, words in (
        (store, "holds thesis.txt"),
        (tmp_path / "plain.zarr", "no Zarr store"),
        (tmp_path / "file.zarr", "a file"),
    ):
        with pytest.raises(OutputError, match=words):
            check_output_path(path)


CHILD = """
import sys, time
import numpy as np
from affine import Affine
from geofuse.io import OutputSpec, open_sink
from geofuse.scene import BandMetadata
values = np.random.default_rng(0).random((20, 1024, 100), dtype=np.float32)
spec = OutputSpec(1024, 100, BandMetadata.unknown(20), Affine(1, 0, 0, 0, -1, 9), None)
with open_sink(sys.argv[1], spec) as sink:
    for row in range(0, 1024, 64):
        sink.write(values[:, row : row + 64], row)
        print(row, flush=True)
        time.sleep(0.01)
"""


def test_kill_minus_nine_leaves_the_old_store_and_the_next_writer_clears_up(files, store):
    before = open_scene(store).values
    child = subprocess.Popen([sys.executable, "-c", CHILD, store], stdout=subprocess.PIPE, text=True)
    while child.stdout.readline().strip() != "512":
        assert child.poll() is None
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert sorted(p.name for p in store.parent.iterdir()) == [f".a.zarr.geofuse-{child.pid}.tmp", "a.zarr"]
    np.testing.assert_array_equal(open_scene(store).values, before)
    write(store, files, random_values((3, 40, 30)))
    assert [p.name for p in store.parent.iterdir()] == ["a.zarr"]


def test_a_folder_that_a_dead_writer_had_renamed_aside_goes_back(files, store):
    gone = subprocess.Popen(["true"])
    gone.wait()
    work = store.with_name(f".a.zarr.geofuse-{gone.pid}.tmp")
    work.mkdir()
    store.rename(work / "old-a.zarr")
    publish_module.remove_leftovers(store)
    assert open_scene(store).shape == (5, 300, 100) and not work.exists()


def test_an_earlier_process_windows_are_taken_back_only_if_they_are_whole(files, tmp_path):
    values, work = random_values((20, 600, 100)), tmp_path / "work"
    work.mkdir()
    spec = files.spec_for(values.shape)
    with pytest.raises(RuntimeError), open_sink(tmp_path / "a.zarr", spec, work=work) as sink:
        receipts = [sink.write(values[:, row : row + 256], row) for row in (0, 256)]
        raise RuntimeError("power cut")
    chunk = work / "a.zarr" / "image" / "c" / "0" / "1" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-40])
    receipts = json.loads(json.dumps(receipts))
    with open_sink(tmp_path / "a.zarr", spec, work=work) as sink:
        assert sink.restore(0, 0, 256, 100, receipts[0]) and not sink.restore(256, 0, 256, 100, receipts[1])
        sink.write(values[:, 256:], 256)
    np.testing.assert_array_equal(open_scene(tmp_path / "a.zarr").values, values)
