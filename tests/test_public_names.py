from __future__ import annotations

import subprocess
import sys

import pytest

import geofuse


@pytest.mark.parametrize("name", geofuse.__all__)
def test_every_public_name_is_there_and_listed(name):
    assert getattr(geofuse, name) is not None
    assert name in dir(geofuse)


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'open_scenes'"):
        _ = geofuse.open_scenes


def test_importing_geofuse_gives_xarray_its_accessors():
    code = "import geofuse, xarray; print(hasattr(xarray.Dataset, 'fusion'), hasattr(xarray.DataArray, 'fusion'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "True True\n", done.stderr
