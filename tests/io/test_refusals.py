"""Every kind of file that must not be opened gives one line that names it and says what to do."""

import gzip
import os
import struct

import numpy as np
import pytest
import rasterio

from geofuse.errors import GeofuseError, InputError, MissingFileError
from geofuse.io import describe, guard, open_scene

VRT = """<VRTDataset rasterXSize="5" rasterYSize="6"><VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">
<SourceFilename relativeToVRT="0">/etc/passwd</SourceFilename></VRTRasterBand></VRTDataset>"""


def refusal(path, kind=InputError, **kwargs):
    """The message with which opening and describing a path both fail."""
    with pytest.raises(kind) as described:
        describe(path, **kwargs)
    with pytest.raises(kind) as opened:
        open_scene(path, **kwargs)
    assert isinstance(opened.value, GeofuseError) and str(opened.value) == str(described.value)
    text = str(opened.value)
    assert "\n" not in text and os.path.basename(os.fspath(path)) in text
    return text


def test_a_missing_file(tmp_path):
    assert "no such file; check the name" in refusal(tmp_path / "no.tif", MissingFileError)


def test_a_folder(tmp_path):
    assert "a folder; name the image file in it" in refusal(tmp_path)


def test_an_empty_file(tmp_path):
    (tmp_path / "a.tif").touch()
    assert "empty (0 bytes); copy or download it again" in refusal(tmp_path / "a.tif")


def test_a_fifo_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "a.tif")
    assert "not a regular file" in refusal(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"Dear reader,\nthis is no image", "not a GeoTIFF, and no ENVI header beside it"),
        (b"\x89PNG\r\n\x1a\n1234", "a PNG picture"),
        (b"\x89HDF\r\n\x1a\n1234", "an HDF5 or netCDF-4 file"),
        (b"PK\x03\x04aaaa", "a zip archive; unpack it first"),
        (b"\x1f\x8baaaa", "a gzip archive; unpack it first"),
        (b"LC08_L2SP".ljust(257, b"\0") + b"ustar\x0000", "a tar archive; unpack it first"),
    ],
)
def test_other_content_named_tif(tmp_path, head, words):
    (tmp_path / "a.tif").write_bytes(head)
    assert words in refusal(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["fake.tif", "fake.vrt", "fake.dat"])
@pytest.mark.parametrize("start", ["", "\n  "])
def test_a_vrt_by_any_name(tmp_path, name, start):
    (tmp_path / name).write_text(start + VRT)
    assert "a VRT, which can point at any file" in refusal(tmp_path / name)


def test_a_vrt_opens_when_it_is_explicitly_allowed(files, tmp_path):
    stored = files.counts((1, 6, 5))
    files.make_tif(tmp_path / "a.tif", stored)
    (tmp_path / "a.vrt").write_text(
        '<VRTDataset rasterXSize="5" rasterYSize="6"><VRTRasterBand dataType="Int16" band="1"><SimpleSource>'
        '<SourceFilename relativeToVRT="1">a.tif</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>'
    )
    assert (open_scene(tmp_path / "a.vrt", allow_remote=True).values == stored).all()


@pytest.mark.parametrize(
    "name",
    [
        "http://127.0.0.1:9/a.tif",
        "https://127.0.0.1:9/a.tif",
        "s3://bucket/a.tif",
        "file:///tmp/a.tif",
        "zip+file:///tmp/a.zip!a.tif",
        "/vsicurl/http://127.0.0.1:9/a.tif",
        "/vsizip/a.zip/a.tif",
        "/VSIMEM/a.tif",
        "GTIFF_DIR:1:a.tif",
    ],
)
def test_urls_and_virtual_files(name):
    assert "not a local file; download it first" in refusal(name)


def test_an_allowed_url_that_does_not_answer_is_one_line():
    with pytest.raises(InputError, match=r"^http://127.0.0.1:9/a.tif: cannot be opened \(.*$") as caught:
        open_scene("http://127.0.0.1:9/a.tif", allow_remote=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".ovr", ".msk"])
def test_a_vrt_as_overview_or_mask(files, tmp_path, suffix):
    files.make_tif(tmp_path / "a.tif", files.counts())
    (tmp_path / f"a.tif{suffix}").write_text(VRT)
    with pytest.raises(InputError, match=f"a.tif{suffix}: not a TIFF file"):
        open_scene(tmp_path / "a.tif")


def test_an_overview_elsewhere(files, tmp_path):
    files.make_tif(tmp_path / "a.tif", files.counts())
    text = '<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">/vsicurl/http://127.0.0.1:9/x</MDI></Metadata></PAMDataset>'
    (tmp_path / "a.tif.aux.xml").write_text(text)
    with pytest.raises(InputError, match="names another file as overview"):
        open_scene(tmp_path / "a.tif")
    (tmp_path / "a.tif.aux.xml").unlink()
    with rasterio.open(tmp_path / "a.tif", "r+") as dataset:
        dataset.update_tags(ns="OVERVIEWS", OVERVIEW_FILE="/vsicurl/http://127.0.0.1:9/x")
    assert "names another file as overview" in refusal(tmp_path / "a.tif")


@pytest.mark.parametrize("bigtiff", ["NO", "YES"])
@pytest.mark.parametrize("layout", [{}, {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}])
def test_a_geotiff_cut_anywhere(files, tmp_path, bigtiff, layout):
    files.make_tif(tmp_path / "a.tif", files.counts((4, 64, 64)), bigtiff=bigtiff, **layout)
    whole = (tmp_path / "a.tif").read_bytes()
    for keep in [3, 7, 12, 100, len(whole) // 4, len(whole) // 2, len(whole) - 1]:
        (tmp_path / "cut.tif").write_bytes(whole[:keep])
        text = refusal(tmp_path / "cut.tif")
        assert "truncated" in text or keep < 4


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
def test_a_truncated_envi_file(files, tmp_path, interleave):
    files.make_envi(tmp_path / "a.dat", files.counts(), interleave=interleave)
    data = (tmp_path / "a.dat").read_bytes()
    (tmp_path / "a.dat").write_bytes(data[:-1])
    assert "truncated ENVI file, 1 bytes fewer than its header says" in refusal(tmp_path / "a.dat")


def test_an_envi_header_without_data_or_with_too_many(files, tmp_path):
    header = files.make_envi(tmp_path / "a.dat", files.counts())
    (tmp_path / "a.dat").rename(tmp_path / "b.dat")
    assert "no data file a or a.* beside this ENVI header" in refusal(header, MissingFileError)
    for name in ("a.dat", "a.img"):
        (tmp_path / name).write_bytes(b"x")
    assert "several files could hold the data of this header (a.dat, a.img)" in refusal(header)


def test_a_header_that_is_not_envi(tmp_path):
    (tmp_path / "a.hdr").write_text("BYTEORDER I\nNROWS 5\n")
    (tmp_path / "a.bil").write_bytes(b"x" * 100)
    assert "not an ENVI header" in refusal(tmp_path / "a.hdr")
    assert "no ENVI header beside it" in refusal(tmp_path / "a.bil")


@pytest.mark.parametrize(
    "fields",
    [{"data_type": 7}, {"samples": "many"}, {"data_type": 6}, {"samples": -4}, {"bands": 0}, {"lines": 10**9}, {"bbl": "{1}"}],
)
def test_envi_headers_that_make_no_sense(files, tmp_path, fields):
    files.make_envi(tmp_path / "a.dat", files.counts((2, 3, 4)), **fields)
    refusal(tmp_path / "a.dat")


def test_a_compressed_envi_file(files, tmp_path):
    files.make_envi(tmp_path / "a.dat", files.counts((2, 3, 4)), file_compression=1)
    (tmp_path / "a.dat").write_bytes(gzip.compress((tmp_path / "a.dat").read_bytes()))
    assert "decompress it" in refusal(tmp_path / "a.dat")


def lying_tif(path, width, height, rows_per_strip, bands=1):
    """A TIFF of a few bytes whose directory claims an enormous image; every block points at the same 16 bytes."""
    n_strips = -(-height // rows_per_strip)
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, 8),
        (262, 3, 1, 1),
        (277, 3, 1, bands),
        (278, 4, 1, rows_per_strip),
    ]
    start = 8 + 2 + 12 * (len(entries) + 2) + 4
    offsets, counts = (start, start + 4 * n_strips) if n_strips > 1 else (start, 16)
    data = start + 8 * n_strips if n_strips > 1 else start
    entries += [(273, 4, n_strips, offsets), (279, 4, n_strips, counts)]
    body = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    arrays = struct.pack("<I", data) * n_strips + struct.pack("<I", 16) * n_strips if n_strips > 1 else b""
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + struct.pack("<I", 0) + arrays + b"\0" * 16)


def test_a_header_that_lies_about_its_size(tmp_path):
    lying_tif(tmp_path / "a.tif", 2_000_000, 4_000_000, 100)
    assert "its header claims 8000 GB" in refusal(tmp_path / "a.tif")
    lying_tif(tmp_path / "b.tif", 100_000, 100_000, 30_000)
    assert "blocks of 30000 x 100000 x 1 uint8 do not fit in memory" in refusal(tmp_path / "b.tif")


def test_a_genuine_image_of_nothing_passes_the_size_check(tmp_path):
    profile = {"driver": "GTiff", "width": 20000, "height": 20000, "count": 1, "dtype": "uint8", "sparse_ok": True}
    with rasterio.open(tmp_path / "a.tif", "w", tiled=True, blockxsize=512, blockysize=512, **profile):
        pass
    scene = open_scene(tmp_path / "a.tif")
    assert 20000 * 20000 < guard.HARMLESS_BYTES and not scene[:, :10, :10].values.any()


def test_complex_and_mixed_types(tmp_path):
    profile = {"driver": "GTiff", "width": 4, "height": 4, "count": 1, "dtype": "complex64"}
    with rasterio.open(tmp_path / "a.tif", "w", **profile) as dataset:
        dataset.write(np.ones((1, 4, 4), np.complex64))
    assert "complex64; expected bands of one integer or real type" in refusal(tmp_path / "a.tif")


def test_a_damaged_block_fails_when_it_is_computed_and_only_then(files, tmp_path, caplog, capfd):
    path = files.make_tif(
        tmp_path / "a.tif", files.counts((1, 64, 64), "uint16"), tiled=True, blockxsize=16, blockysize=16, compress="deflate"
    )
    with rasterio.open(path) as dataset:
        offset = int(dataset.get_tag_item("BLOCK_OFFSET_1_1", "TIFF", bidx=1))
    data = bytearray(path.read_bytes())
    data[offset : offset + 40] = b"\xff" * 40
    path.write_bytes(data)
    scene = open_scene(path, chunks=16)
    assert scene[:, :16, :16].values.any()
    with pytest.raises(InputError, match="a.tif: cannot be read .*; it is damaged: copy it again") as caught:
        scene.compute()
    assert "\n" not in str(caught.value)
    assert caplog.text == "" and capfd.readouterr().err == ""
