"""``geofuse run --save-prior`` and ``--prior``: learn once, fuse many."""

import numpy as np
import pytest
import rasterio


def values(path):
    with rasterio.open(path) as dataset:
        return dataset.read(), dataset.tags()


@pytest.fixture
def prior(job, geofuse, tmp_path):
    """The file, and the result of the run that learnt it."""
    path = tmp_path / "prior.safetensors"
    done = geofuse(*job.arguments(tmp_path / "first.tif", "--save-prior", path, method="argsdiff"))
    assert done.code == 0, done.err
    return path


def test_a_saved_prior_reproduces_its_own_scene_and_is_named_in_the_result(job, geofuse, prior, tmp_path):
    done = geofuse(*job.arguments(tmp_path / "second.tif", "--prior", prior, "--adapt", 0, method="argsdiff"))
    assert done.code == 0, done.err
    (first, tags), (second, named) = values(tmp_path / "first.tif"), values(tmp_path / "second.tif")
    assert np.array_equal(first, second)
    assert named["GEOFUSE_PRIOR"].startswith("prior.safetensors sha256:") and "GEOFUSE_PRIOR" not in tags


def test_a_prior_is_adapted_to_another_scene_and_can_be_saved_again(make_job, geofuse, prior, tmp_path):
    other = make_job(48, 64, seed=5).write()
    again = tmp_path / "adapted.safetensors"
    done = geofuse(*other.arguments(tmp_path / "other.tif", "--prior", prior, "--save-prior", again, method="argsdiff"))
    assert done.code == 0, done.err
    assert again.read_bytes() != prior.read_bytes()
    assert values(tmp_path / "other.tif")[0].shape == (41, 48, 64)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--prior", "missing.safetensors"), "does not exist"),
        (("--prior", "camera.csv"), "is not a safetensors file"),
        (("--method", "subspace", "--prior", "prior.safetensors"), "has no prior to start from or to save"),
        (("--preset", "paper", "--save-prior", "new.safetensors"), "has no prior to start from or to save"),
        (("--adapt", "0.5"), "give the prior with --prior"),
        (("--save-prior", "result.tif"), "a name of its own"),
        (("--save-prior", "hsi.tif"), "is an input of this run"),
        (("--prior", "prior.safetensors", "--save-prior", "prior.safetensors"), "is an input of this run"),
        (("--save-prior", "nowhere/prior.safetensors"), "does not exist; create it first"),
    ],
)
def test_a_prior_that_cannot_be_used_is_refused_before_anything_is_done(job, geofuse, prior, tmp_path, monkeypatch, more, says):
    monkeypatch.chdir(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    refused = geofuse(*job.arguments("result.tif", *more, method="argsdiff"))
    assert refused.code == 2 and says in refused.err
    assert refused.err.splitlines()[-1].startswith("geofuse: error: ")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_prior_of_another_camera_is_refused(job, geofuse, prior, tmp_path):
    header, *rows = job.camera.read_text().splitlines()
    moved = [f"{float(row.partition(',')[0]) - 40:g},{row.partition(',')[2]}" for row in rows if float(row.partition(",")[0]) > 465]
    job.camera.write_text("\n".join([header, *moved]) + "\n")
    refused = geofuse(*job.arguments(tmp_path / "second.tif", "--prior", prior, method="argsdiff"))
    assert refused.code == 2 and "was learnt on an MSI of 4 bands" in refused.err and refused.err.count("\n") == 1
    assert not (tmp_path / "second.tif").exists()
