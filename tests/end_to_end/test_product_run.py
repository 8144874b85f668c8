"""``geofuse run`` on a product as its agency publishes it."""

import numpy as np
import pytest
import rasterio

STEM = "ENMAP01-____L2A-DT0000001867_20220724T104526Z_008_V010302_20230628T165614Z"


@pytest.fixture
def enmap(job, make):
    """The job's HSI as an EnMAP folder: nothing but the XML says what its bands and values are."""
    folder = job.folder / STEM
    folder.mkdir()
    with rasterio.open(job.hsi_path) as dataset:
        stored, profile = dataset.read(), dataset.profile
    with rasterio.open(folder / f"{STEM}-SPECTRAL_IMAGE.TIF", "w", **profile) as dataset:
        dataset.write(stored)
    bands = "".join(
        f'<bandID number="{i}"><wavelengthCenterOfBand>{nm:.4f}</wavelengthCenterOfBand><FWHMOfBand>11.23</FWHMOfBand>'
        f"<GainOfBand>{make.SCALE}</GainOfBand><OffsetOfBand>0</OffsetOfBand></bandID>"
        for i, nm in enumerate(make.NM, 1)
    )
    xml = f"<level_X><specific><bandCharacterisation>{bands}</bandCharacterisation></specific></level_X>"
    (folder / f"{STEM}-METADATA.XML").write_text(xml)
    return folder


@pytest.mark.parametrize("suffix", ["", "-METADATA.XML"])
def test_a_product_folder_or_file_fuses_to_what_the_same_image_as_geotiff_does(job, enmap, geofuse, fuse, suffix):
    plain = fuse(job)
    output = job.folder / "from-product.tif"
    arguments = job.arguments(output)
    arguments[1] = str(enmap / (STEM + suffix)) if suffix else str(enmap)
    done = geofuse(*arguments)
    assert done.code == 0, done.err
    with rasterio.open(output) as dataset, rasterio.open(plain.path) as reference:
        np.testing.assert_array_equal(dataset.read(), reference.read())
        assert dataset.scales == reference.scales and dataset.nodata == reference.nodata
        assert [dataset.tags(i)["wavelength"] for i in dataset.indexes] == [
            reference.tags(i)["wavelength"] for i in reference.indexes
        ]


def test_the_page_shows_clouds_where_the_run_was_told_to_use_them(job, enmap, geofuse, monkeypatch):
    with rasterio.open(job.hsi_path) as dataset:
        profile = dataset.profile | {"count": 1, "dtype": "uint8", "nodata": None}
    clouds = np.zeros((1, profile["height"], profile["width"]), np.uint8)
    clouds[:, :3, :4] = 1
    with rasterio.open(enmap / f"{STEM}-QL_QUALITY_CLOUD.TIF", "w", **profile) as dataset:
        dataset.write(clouds)
    shown = []
    monkeypatch.setattr("geofuse.report.write_report", lambda *a, hsi, **b: shown.append(float(np.isnan(hsi.values).mean())))
    arguments = job.arguments(job.folder / "out.tif", "--report", job.folder / "page.html", method="bicubic")
    arguments[1] = str(enmap)
    for choice in ("--mask-clouds", "--no-mask-clouds"):
        done = geofuse(*arguments, choice)
        assert done.code == 0, done.err
    assert shown == [pytest.approx(clouds.mean()), 0.0]
