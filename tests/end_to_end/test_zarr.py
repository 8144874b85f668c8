"""Zarr in and out: by the command line, by the accessor, and on a cluster; the same values each way."""

import warnings

import numpy as np
import pytest

import geofuse
from geofuse.fusion import Fusion
from geofuse.scene import provenance_of

pytest.importorskip("zarr")
xr = pytest.importorskip("xarray")

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:zarr")  # consolidated metadata are no part of the standard yet


@pytest.fixture
def stores(job):
    """The pair of images as Zarr stores."""
    from geofuse.io import write_scene

    for path in (job.hsi_path, job.msi_path):
        write_scene(geofuse.open_scene(path), path.with_suffix(".zarr"))
    return job.hsi_path.with_suffix(".zarr"), job.msi_path.with_suffix(".zarr")


def open_pair(job, stores):
    return geofuse.open_pair(*stores, srf=job.camera, psf="box")


def run_on(stores, job, geofuse, output, *more, method="subspace"):
    arguments = job.arguments(output, *more, method=method)
    arguments[1:3] = stores
    return geofuse(*arguments)


@pytest.fixture
def command(geofuse):
    return geofuse


def test_zarr_in_and_out_gives_what_geotiffs_give(job, stores, command, fuse):
    expected = fuse(job)
    done = run_on(stores, job, command, job.folder / "out.zarr")
    assert done.code == 0, done.err
    found, reference = geofuse.open_scene(job.folder / "out.zarr"), geofuse.open_scene(expected.path)
    np.testing.assert_array_equal(found.values, reference.values)
    assert found.attrs["stored_dtype"] == "int16" and found.rio.transform() == reference.rio.transform()
    np.testing.assert_allclose(found.wavelength, job.nm, atol=1e-6)
    assert found.attrs["GEOFUSE_HSI"].startswith("hsi.zarr sha256:")


def test_a_wrong_driver_is_refused_before_anything_is_read(job, command):
    done = command(*job.arguments(job.folder / "out.zarr", "--driver", "COG"))
    assert done.code == 2 and "a Zarr store's name ends in .zarr" in done.err and done.err.count("\n") == 1


def test_the_output_may_not_be_an_input_store(job, stores, command):
    done = run_on(stores, job, command, stores[0])
    assert done.code == 2 and "inside the input folder" in done.err
    assert geofuse.open_scene(stores[0]).shape == geofuse.open_scene(job.hsi_path).shape


def test_an_interrupted_run_into_zarr_resumes_to_the_same_bytes(job, stores, command, monkeypatch):
    folders = [job.folder / name for name in ("whole", "cut")]
    for folder in folders:
        folder.mkdir()
    assert run_on(stores, job, command, folders[0] / "out.zarr", "--tile", "32").code == 0
    count, fuse_data = [], Fusion.fuse_data

    def fail_at_the_third(self, *args):
        count.append(1)
        if len(count) == 3:
            raise KeyboardInterrupt
        return fuse_data(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Fusion, "fuse_data", fail_at_the_third)
        assert run_on(stores, job, command, folders[1] / "out.zarr", "--tile", "32").code == 130
    assert not (folders[1] / "out.zarr").exists()
    assert run_on(stores, job, command, folders[1] / "out.zarr", "--tile", "32", "--resume").code == 0
    whole, cut = ({p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file()} for f in folders)
    assert whole == cut


def test_to_zarr_of_the_accessor_holds_what_the_file_holds(job, stores, command, tmp_path):
    done = run_on(stores, job, command, job.folder / "out.zarr", "--tile", "32", "--dtype", "float32")
    assert done.code == 0, done.err
    fused = open_pair(job, stores).fusion.subspace(tile=32)
    fused.to_zarr(tmp_path / "fused.zarr")
    found, expected = geofuse.open_scene(tmp_path / "fused.zarr"), geofuse.open_scene(job.folder / "out.zarr")
    np.testing.assert_allclose(found.values, expected.values, rtol=2e-5, atol=1e-6)
    assert found.rio.crs == expected.rio.crs and found.rio.transform() == expected.rio.transform()
    for name in ("wavelength", "fwhm", "good_band", "band_name"):
        np.testing.assert_array_equal(found[name], expected[name])
    told = {
        k: v for k, v in provenance_of(expected.attrs).items() if k not in ("GEOFUSE_HSI", "GEOFUSE_MSI", "GEOFUSE_COREGISTRATION")
    }
    assert provenance_of(found.attrs).items() >= told.items()
    assert "NaN" not in (tmp_path / "fused.zarr" / "fused" / "zarr.json").read_text().replace('"fill_value": "NaN"', "")


def test_a_pair_that_went_through_zarr_fuses_to_the_same(job, stores, tmp_path):
    pair = open_pair(job, stores)
    pair.to_zarr(tmp_path / "pair.zarr")
    found = xr.open_zarr(tmp_path / "pair.zarr").fusion.subspace(tile=32)
    expected = pair.fusion.subspace(tile=32)
    np.testing.assert_array_equal(found.values, expected.values)
    assert found.rio.crs == expected.rio.crs and found.rio.transform() == expected.rio.transform()


def test_a_pair_whose_hsi_sticks_out_is_still_written_in_even_chunks(make_job, make, tmp_path):
    job = make_job()
    job.msi = job.msi[:, 3:, 2:]  # corner inside a coarse pixel
    job.msi_changes = {"transform": make.north_up(make.FINE_M, 3, 2)}
    job.write()
    fused = geofuse.open_pair(job.hsi_path, job.msi_path, srf=job.camera, psf="box").fusion.bicubic(tile=32)
    fused.to_zarr(tmp_path / "fused.zarr")
    np.testing.assert_array_equal(geofuse.open_scene(tmp_path / "fused.zarr").values, fused.values)


def test_in_one_process_a_second_computation_does_not_learn_again(job, stores, monkeypatch):
    learnt, fit = [], Fusion.fit
    monkeypatch.setattr(Fusion, "fit", lambda self, *a: (learnt.append(1), fit(self, *a))[1])
    fused = open_pair(job, stores).fusion.subspace(tile=32)
    first = fused[:, :8, :8].values
    np.testing.assert_array_equal(fused.values[:, :8, :8], first)
    assert learnt == [1]


def test_on_a_cluster_to_zarr_learns_once_sends_it_once_and_gives_the_files_values(job, stores, command, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    done = run_on(stores, job, command, job.folder / "out.zarr", "--tile", "32", "--dtype", "float32", method="argsdiff")
    assert done.code == 0, done.err
    learnt, fit = [], Fusion.fit
    monkeypatch.setattr(Fusion, "fit", lambda self, *a: (learnt.append(1), fit(self, *a))[1])
    silent = {"dashboard_address": None, "silence_logs": 50}
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=2, processes=False, **silent) as cluster,
        distributed.Client(cluster),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # on the size of the graph
        open_pair(job, stores).fusion.argsdiff(tile=32).to_zarr(tmp_path / "fused.zarr")
        sent = [key for worker in cluster.workers.values() for log in worker.transfer_incoming_log for key in log["keys"]]
    assert learnt == [1] and sum(str(key).startswith("_learn") for key in sent) <= 1
    found, expected = geofuse.open_scene(tmp_path / "fused.zarr"), geofuse.open_scene(job.folder / "out.zarr")
    np.testing.assert_allclose(found.values, expected.values, rtol=2e-5, atol=1e-6)


@pytest.mark.slow
def test_worker_processes_give_the_same_bytes_as_one_process(job, stores, tmp_path):
    distributed = pytest.importorskip("distributed")
    open_pair(job, stores).fusion.subspace(tile=32).to_zarr(tmp_path / "here.zarr")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        open_pair(job, stores).fusion.subspace(tile=32).to_zarr(tmp_path / "there.zarr")
    np.testing.assert_array_equal(*(geofuse.open_scene(tmp_path / f"{name}.zarr").values for name in ("here", "there")))
