"""The report holds what the images hold, needs nothing from outside, and lets nothing from a file run."""

import base64
import json
import re

import dask.array as da
import numpy as np
import pytest
from affine import Affine

from geofuse import metrics
from geofuse.errors import InputError, OutputError
from geofuse.evaluate import evaluate_scenes
from geofuse.io import write_scene
from geofuse.report import ReportLimits, gather_content, render_page, write_figures, write_report
from geofuse.report.colour import Stretch, composites
from geofuse.report.encode import MISSING, quantise, to_webp
from geofuse.report.gather import Request, gather
from geofuse.report.placement import Grid, evenly, locate, picture_points, pixel_ratio
from geofuse.scene import BandMetadata, make_scene

UTM = "EPSG:32633"
GRID = Affine(10, 0, 300000, 0, -10, 5800000)
RATIO, HEIGHT, WIDTH, BANDS = 3, 24, 30, 14
NM = np.linspace(450, 1100, BANDS)
MSI_NM = np.array([480.0, 560, 660, 860])


def scene(data, transform=GRID, nm=NM, crs=UTM, **attrs):
    n = len(data)
    nm = np.full(n, np.nan) if nm is None else np.asarray(nm, float)
    bands = BandMetadata(nm, np.full(n, 20.0), np.ones(n, bool), tuple(f"band {i + 1}" for i in range(n)))
    return make_scene(da.from_array(np.asarray(data, np.float32), chunks=(-1, 7, 11)), bands, transform, crs, attrs)


@pytest.fixture(scope="module")
def images():
    """Arrays of a fused image, its reference, and what it could have been made from; a corner without data."""
    rng = np.random.default_rng(4)
    truth = rng.uniform(0.05, 0.6, (BANDS, HEIGHT // RATIO, WIDTH // RATIO)).repeat(RATIO, 1).repeat(RATIO, 2)
    truth = (truth + rng.normal(0, 0.02, truth.shape)).astype(np.float32)
    fused = truth + rng.normal(0, 0.01, truth.shape).astype(np.float32)
    fused[:, :4, :5] = np.nan
    hsi = truth.reshape(BANDS, HEIGHT // RATIO, RATIO, WIDTH // RATIO, RATIO).mean((2, 4))
    msi = np.stack([truth[np.abs(NM - nm).argmin()] for nm in MSI_NM])
    return {"fused": fused, "reference": truth, "hsi": hsi, "msi": msi}


@pytest.fixture(scope="module")
def scenes(images):
    tags = {"GEOFUSE_METHOD": "subspace", "GEOFUSE_RATIO": str(RATIO)}
    return {
        "fused": scene(images["fused"], source="/data/fused.tif", **tags),
        "reference": scene(images["reference"], source="/data/reference.tif"),
        "hsi": scene(images["hsi"], GRID * Affine.scale(RATIO), source="/data/hsi.tif"),
        "msi": scene(images["msi"], nm=MSI_NM, source="/data/msi.tif"),
    }


def report_of(scenes, **changes):
    return gather_content(**{**scenes, **changes})


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL).group(1))


def spectra_of(data, name):
    """Decode the spectra of a layer as the page's script does: (sample rows, sample columns, band)."""
    found = next(s for s in data["spectra"] if s["id"] == name)
    stored = np.frombuffer(base64.b64decode(found["data"]), "<i2").reshape(-1, found["bands"])[found["pixel"]]
    values = np.where(stored == MISSING, np.nan, found["offset"] + found["step"] * stored)
    return values.reshape(len(data["samples"]["rows"]), len(data["samples"]["cols"]), -1), found["step"]


@pytest.fixture(scope="module")
def page(scenes):
    return render_page(report_of(scenes))


# ---- the page ----


def test_the_page_refers_to_nothing_outside_itself(page):
    elsewhere = re.sub(r"/\*!.*?\*/", "", page, flags=re.DOTALL)  # uPlot's own comment names its home
    assert "uPlot" in page and not re.search(r"https?:|//cdn|@import|url\(|\bfetch\(|XMLHttpRequest|WebSocket", elsewhere)
    assert not re.search(r"<(link|iframe|object|embed|base)\b|<script[^>]+src", page)
    assert re.search(r"Content-Security-Policy\" content=\"default-src 'none'; img-src data:", page)


@pytest.mark.parametrize("name", ["fused", "reference", "hsi", "msi"])
def test_spectra_on_the_page_are_those_of_the_image(page, images, name):
    data = data_of(page)
    got, step = spectra_of(data, name)
    scale = RATIO if name == "hsi" else 1
    rows, cols = (np.array(data["samples"][axis]) // scale for axis in ("rows", "cols"))
    np.testing.assert_allclose(got, images[name][:, rows][:, :, cols].transpose(1, 2, 0), atol=0.51 * step, equal_nan=True)
    assert step < 2e-5


def test_fewer_spectra_are_kept_where_they_would_not_fit_and_the_page_says_which(scenes, images):
    content = report_of(scenes, limits=ReportLimits(spectra_bytes=6000))
    page = render_page(content)
    data = data_of(page)
    step = data["samples"]["rows"][1] - data["samples"]["rows"][0]
    assert 1 < step and f"one pixel in {step} × {step}" in page
    assert sum(len(base64.b64decode(s["data"])) for s in data["spectra"]) <= 6000
    got, size = spectra_of(data, "fused")
    np.testing.assert_allclose(got[-1, -1], images["fused"][:, data["samples"]["rows"][-1], data["samples"]["cols"][-1]], atol=size)


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7 * 7 }}"


def test_what_a_file_says_of_itself_is_text_and_nothing_else(images):
    bands = BandMetadata(np.full(BANDS, np.nan), np.full(BANDS, np.nan), np.ones(BANDS, bool), (HOSTILE,) * BANDS)
    tags = {"GEOFUSE_METHOD": HOSTILE, "GEOFUSE_" + HOSTILE: HOSTILE}
    nasty = make_scene(images["fused"], bands, GRID, UTM, {"source": f"/data/{HOSTILE}", "provenance": tags})
    page = render_page(gather_content(nasty))
    assert page.count("<script") == 3 and page.count("</script>") == 3 and "<img" not in page
    assert data_of(page)["axis"]["labels"] == [HOSTILE] * BANDS
    assert "{{ 7 * 7 }}" in page


def test_a_page_of_standard_deviations_says_so(images):
    page = render_page(gather_content(scene(images["fused"], **{"GEOFUSE_UNCERTAINTY": "standard deviation; 4 samples"})))
    assert "<li>standard deviations, not values</li>" in page


def test_without_a_reference_there_are_no_errors_and_no_scores(scenes):
    page = render_page(report_of(scenes, reference=None))
    assert data_of(page)["errors"] is None
    assert 'id="error-map"' not in page and '<h2 id="scores-title"' not in page
    assert [layer["id"] for layer in data_of(page)["layers"]] == ["hsi", "msi", "fused"]


def test_the_fused_image_alone_makes_a_page_without_swipe(scenes):
    page = render_page(gather_content(scenes["fused"]))
    assert 'id="swipe"' not in page and [layer["id"] for layer in data_of(page)["layers"]] == ["fused"]


def test_scores_given_are_the_scores_shown(scenes):
    content = report_of(scenes, metrics={"psnr": 31.25, "sam": float("nan")})
    assert content.scores["psnr"] == 31.25
    assert "31.25" in render_page(content) and "undefined" in render_page(content)


def test_the_same_images_make_the_same_page(scenes, page):
    assert render_page(report_of(scenes)) == page


def test_a_page_that_cannot_be_written_leaves_no_trace(scenes, tmp_path):
    with pytest.raises(OutputError, match="choose a folder that exists"):
        write_report(scenes["fused"], tmp_path / "missing" / "page.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bytes_allowed", [20_000, 60_000])
def test_quicklooks_get_smaller_to_fit_the_bytes_they_may_take(bytes_allowed):
    noise = np.random.default_rng(1).uniform(0, 1, (40, 200, 160))
    limits = ReportLimits(picture_side=50, quicklook_bytes=bytes_allowed, spectra_bytes=1000)
    data = data_of(render_page(gather_content(scene(noise, nm=np.linspace(400, 1000, 40)), limits=limits), limits))
    assert sum(len(q) for q in data["layers"][0]["quicklooks"]) * 3 / 4 <= bytes_allowed  # noise compresses worst of all


@pytest.mark.slow
def test_the_page_of_a_thousand_by_thousand_scene_of_noise_stays_under_20_mb(tmp_path):
    def noise(side, n, seed):
        def block(block_info):
            where = block_info[None]["chunk-location"]
            shape = [int(b - a) for a, b in block_info[None]["array-location"]]
            return np.random.default_rng((seed, *where)).uniform(0, 1, shape).astype(np.float32)

        chunks = da.core.normalize_chunks((n, 250, 250), (n, side, side))
        return da.map_blocks(block, chunks=chunks, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32))

    def lazy(data, transform, nm):
        n = data.shape[0]
        return make_scene(data, BandMetadata(nm, np.full(n, 10.0), np.ones(n, bool), ("",) * n), transform, UTM)

    nm, coarse = np.linspace(400, 2500, 200), GRID * Affine.scale(4)
    fused, reference = lazy(noise(1000, 200, 0), GRID, nm), lazy(noise(1000, 200, 1), GRID, nm)
    hsi, msi = lazy(noise(250, 200, 2), coarse, nm), lazy(noise(1000, 7, 3), GRID, np.linspace(450, 2200, 7))
    write_report(fused, tmp_path / "page.html", reference, hsi, msi)
    assert 5e6 < (tmp_path / "page.html").stat().st_size < 20e6


# ---- what it shows ----


def test_errors_and_scores_are_those_of_the_metrics(scenes, images):
    content = report_of(scenes)
    expected = evaluate_scenes(scenes["fused"], scenes["reference"], RATIO)
    assert content.scores == expected.scores
    for name, value in content.errors.scores.items():
        assert value == pytest.approx(expected.scores[name], rel=1e-9)
    np.testing.assert_allclose(content.errors.psnr, expected.bands["psnr"], rtol=1e-9)
    valid = np.isfinite(images["fused"]).all(axis=0)
    rmse = np.sqrt(((images["fused"].astype(float) - images["reference"]) ** 2).mean(axis=0))
    np.testing.assert_allclose(content.errors.rmse[valid], rmse[valid], rtol=1e-5)
    assert np.isnan(content.errors.rmse[~valid]).all()
    assert np.nanmean(content.errors.angle) == pytest.approx(metrics.sam(images["reference"], images["fused"]), rel=1e-5)


def test_a_reference_on_part_of_the_pixels_is_compared_there(scenes, images):
    part = scene(images["reference"][:, 6:20, 3:], GRID * Affine.translation(3, 6))
    content = report_of(scenes, reference=part, metrics={})
    assert content.errors.box == (3, 6, 30, 20) and content.errors.rmse.shape == (14, 27)
    got, _ = spectra_of(data_of(render_page(content)), "reference")
    assert np.isnan(got[:6]).all() and np.isfinite(got[6:20, 3:]).all()


def test_a_south_up_reference_is_compared_pixel_by_pixel(scenes, images):
    turned = scene(images["reference"][:, ::-1], GRID @ Affine(1, 0, 0, 0, -1, HEIGHT))
    expected, found = report_of(scenes).errors, report_of(scenes, reference=turned).errors
    assert found.box == expected.box and found.scores == expected.scores
    np.testing.assert_array_equal(found.rmse, expected.rmse)


def test_bands_without_data_do_not_spoil_the_rest(scenes, images):
    fused = images["fused"].copy()
    fused[5] = np.nan
    content = report_of(scenes, fused=scene(fused), metrics={})
    assert np.isnan(content.errors.psnr[5]) and np.isfinite(np.delete(content.errors.psnr, 5)).all()
    assert np.isfinite(content.errors.rmse).any() and (content.layer("fused").quicklooks[5] == 0).all()
    assert json.loads(json.dumps(data_of(render_page(content))))["errors"]["psnr"][5] is None


def test_a_fused_image_without_any_data_is_refused(scenes, images):
    with pytest.raises(InputError, match="no data"):
        report_of(scenes, fused=scene(np.full_like(images["fused"], np.nan)))


def test_an_image_of_another_place_is_refused(scenes, images):
    with pytest.raises(InputError, match="do not overlap"):
        report_of(scenes, msi=scene(images["msi"], GRID * Affine.translation(500, 0), MSI_NM))


def test_an_hsi_with_other_bands_is_refused(scenes, images):
    with pytest.raises(InputError, match="HSI has 9 bands and the fused image 14"):
        report_of(scenes, hsi=scene(images["hsi"][:9], GRID * Affine.scale(RATIO), nm=None))


def test_hsi_msi_fused_and_reference_share_one_stretch(scenes, images):
    content = report_of(scenes)
    levels = content.layer("fused").stretch
    for name in ("hsi", "reference"):
        np.testing.assert_array_equal(content.layer(name).stretch.low, levels.low)
    red = content.views[0].index[0]
    msi = content.layer("msi")
    assert content.msi_in_units and msi.stretch.high[msi.band_of[red]] in levels.high
    valid = np.isfinite(images["fused"][red])
    pooled = np.concatenate([images[name][i][valid] for name, i in (("fused", red), ("msi", msi.band_of[red]))])
    assert np.percentile(pooled, 1) < levels.low[red] < levels.high[red] < np.percentile(pooled, 99)


def test_an_msi_in_other_units_has_levels_of_its_own_and_no_spectra(scenes, images):
    content = report_of(scenes, msi=scene(10000 * images["msi"], nm=MSI_NM))
    page = render_page(content)
    assert not content.msi_in_units and "The MSI is in other units" in page
    assert "msi" not in {s["id"] for s in data_of(page)["spectra"]}
    assert np.unique(content.layer("msi").pictures["true"]).size > 50


def test_an_msi_without_wavelengths_is_matched_by_correlation(scenes, images):
    content = report_of(scenes, msi=scene(images["msi"], nm=None))
    for i, nm in enumerate(MSI_NM):
        assert content.layer("msi").band_of[np.abs(NM - nm).argmin()] == i
    assert "most correlated" in render_page(content)


def test_bands_out_of_order_are_drawn_in_order_and_gaps_break_the_line(images):
    nm = np.array([900, 910, 920, 450, 460, 470, 905, 915, 1300, 1310, 1320, 930, 480, 490.0])
    axis = data_of(render_page(gather_content(scene(images["fused"], nm=nm))))["axis"]
    x = np.array(axis["x"])[axis["order"]]
    assert (np.diff(x) > 0).all() and list(x[axis["breaks"]]) == [490, 930]


def test_true_colour_is_red_green_blue_and_false_colour_begins_in_the_near_infrared():
    bands = BandMetadata(NM, NM, np.ones(BANDS, bool), ("",) * BANDS)
    true, false = composites(bands, np.ones(BANDS, bool))
    np.testing.assert_allclose(NM[list(true.index)], (650, 550, 470), atol=25)
    np.testing.assert_allclose(NM[list(false.index)], (860, 650, 550), atol=25)
    without = np.ones(BANDS, bool)
    without[true.index[0]] = False
    assert true.index[0] not in composites(bands, without)[0].index


def test_no_data_is_transparent_and_nothing_else_is():
    import io

    from PIL import Image

    levels = Stretch(np.zeros(3), np.ones(3)).levels(np.array([[0.0, 0.5, np.nan, 2.0], [-1, 0.5, 0.5, 2], [0, 0.5, 0.5, 2]]))
    assert levels.tolist() == [[1, 128, 0, 255], [1, 128, 128, 255], [1, 128, 128, 255]]
    image = Image.open(io.BytesIO(base64.b64decode(to_webp(levels[:, None], 80)))).convert("RGBA")
    assert np.asarray(image)[0, :, 3].tolist() == [255, 255, 0, 255]


@pytest.mark.parametrize("values", [[0.1, 0.7, np.nan], [3.0, 3.0, 3.0], [np.nan, np.nan], [-1e6, 1e6, 0], [0, 1e-30, 2e-30]])
def test_quantisation_is_within_half_a_step(values):
    values = np.array(values)
    offset, step, stored = quantise(values)
    back = np.where(stored == MISSING, np.nan, offset + step * stored)
    np.testing.assert_allclose(back, values, atol=0.51 * step, equal_nan=True)


# ---- where pixels lie ----


def test_a_fused_pixel_lies_in_the_coarse_pixel_that_holds_it():
    fused, coarse = Grid(HEIGHT, WIDTH, GRID, None), Grid(6, 9, GRID * Affine.translation(3, 0) * Affine.scale(RATIO), None)
    rows, cols = locate(fused, coarse, np.arange(HEIGHT), np.arange(WIDTH))
    inside = rows >= 0
    assert (inside == (np.arange(HEIGHT)[:, None] < 18) & (np.arange(WIDTH) >= 3)).all()
    assert (rows[inside] == (np.arange(HEIGHT)[:, None] // RATIO * np.ones(WIDTH, int))[inside]).all()
    assert (cols[inside] == ((np.arange(WIDTH) - 3) // RATIO * np.ones((HEIGHT, 1), int))[inside]).all()


@pytest.mark.parametrize("shift", [(0, 0), (-4, 5), (2.5, -1.25)])
def test_a_picture_covers_the_footprint_with_the_images_own_pixels(shift):
    fused, coarse = Grid(HEIGHT, WIDTH, GRID, UTM), Grid(30, 40, GRID * Affine.translation(*shift) * Affine.scale(RATIO), UTM)
    points = picture_points(fused, coarse, 1000)
    left, top, right, bottom = points.box
    assert left <= max(0, shift[0]) and top <= max(0, shift[1]) and right >= WIDTH and bottom >= HEIGHT
    assert right - left == pytest.approx(RATIO * points.cols.shape[1]) and (np.diff(points.cols[0]) == 1).all()
    assert left == pytest.approx(shift[0] + RATIO * points.cols[0, 0]) and pixel_ratio(fused, coarse) == pytest.approx(RATIO)


def test_an_image_in_another_crs_is_laid_out_on_the_fused_grid(images):
    from rasterio.crs import CRS
    from rasterio.warp import transform

    lon, lat = transform(UTM, "EPSG:4326", [300000], [5800000])
    degrees = Grid(2000, 2000, Affine(1e-4, 0, lon[0] - 0.1, 0, -1e-4, lat[0] + 0.1), CRS.from_epsg(4326))
    fused = Grid(HEIGHT, WIDTH, GRID, CRS.from_epsg(32633))
    points = picture_points(fused, degrees, 1000)
    assert points.box == (0, 0, WIDTH, HEIGHT)
    x, y = transform(UTM, "EPSG:4326", [300000 + 10 * 12.5], [5800000 - 10 * 7.5])
    assert points.cols[7, 12] == int((x[0] - degrees.transform.c) / 1e-4)
    assert points.rows[7, 12] == int((degrees.transform.f - y[0]) / 1e-4)


def test_longitudes_a_whole_turn_apart_are_the_same():
    from rasterio.crs import CRS

    fused = Grid(HEIGHT, WIDTH, Affine(0.001, 0, 179.99, 0, -0.001, 50), CRS.from_epsg(4326))
    coarse = Grid(HEIGHT // RATIO, WIDTH // RATIO, Affine(0.001 * RATIO, 0, -180.01, 0, -0.001 * RATIO, 50), fused.crs)
    points = picture_points(fused, coarse, 1000)
    assert points.box == pytest.approx((0, 0, WIDTH, HEIGHT), abs=1e-6) and points.cols.shape == (HEIGHT // RATIO, WIDTH // RATIO)
    rows, cols = locate(fused, coarse, np.arange(HEIGHT), np.arange(WIDTH))
    assert (cols == np.arange(WIDTH) // RATIO).all() and (rows >= 0).all()


@pytest.mark.parametrize("count", [1, 3, 7, 50])
def test_thinned_positions_are_evenly_spread_and_inside(count):
    at = evenly(5, 15, count)
    assert len(at) == min(count, 10) and at.min() >= 5 and at.max() < 15 and (np.diff(at) >= 1).all()
    if len(at) > 1:
        assert np.ptp(np.diff(at)) <= 1


def test_gathering_equals_indexing_whatever_the_chunks(images):
    rng = np.random.default_rng(0)
    rows, cols = rng.integers(-1, HEIGHT, (9, 8)), rng.integers(0, WIDTH, (9, 8))
    bands = np.array([3, 1, 8])
    first, second = gather(
        scene(images["fused"]),
        [Request(rows, cols, bands), Request(rows, cols, bands, lambda v: np.isfinite(v), np.uint8, 7)],
    )
    expected = np.where(rows < 0, np.nan, images["fused"][bands[:, None, None], rows, cols])
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(second, np.where(rows < 0, 7, np.isfinite(expected)))


# ---- from files, by the command line ----


@pytest.fixture(scope="module")
def files(scenes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    for name, image in scenes.items():
        write_scene(image, folder / f"{name}.tif")
    return folder


def test_the_command_writes_page_and_pictures(files, tmp_path, capsys):
    from geofuse_cli.main import run

    paths = [str(files / f"{name}.tif") for name in ("fused", "reference", "hsi", "msi")]
    out, png = tmp_path / "page.html", tmp_path / "png"
    options = ["--reference", paths[1], "--hsi", paths[2], "--msi", paths[3], "-o", str(out), "--png", str(png)]
    assert run(["report", paths[0], *options]) == 0
    assert f"wrote {out}" in capsys.readouterr().out
    assert len(data_of(out.read_text(encoding="utf-8"))["layers"]) == 4
    assert {p.name for p in png.iterdir()} == {"true-colour.png", "false-colour.png", "spectra.png", "errors.png", "psnr.png"}


def test_run_writes_a_page_when_asked(files, tmp_path):
    from geofuse_cli.main import run

    page = tmp_path / "page.html"
    images = [str(files / "hsi.tif"), str(files / "msi.tif"), "-o", str(tmp_path / "out.tif")]
    responses = tmp_path / "srf.csv"
    rows = [f"{nm},{','.join(str(int(abs(nm - c) <= 40)) for c in MSI_NM)}" for nm in range(420, 1110, 5)]
    responses.write_text("wavelength_nm,B,G,R,N\n" + "\n".join(rows))
    options = ["--srf", str(responses), "--msi-bands", "B,G,R,N", "--method", "bicubic", "--report", str(page)]
    assert run(["run", *images, *options]) == 0
    assert [layer["id"] for layer in data_of(page.read_text(encoding="utf-8"))["layers"]] == ["hsi", "msi", "fused"]


def test_a_page_never_takes_the_place_of_an_image(files, tmp_path, capsys):
    from geofuse_cli.main import run

    paths = {name: str(files / f"{name}.tif") for name in ("fused", "reference", "hsi", "msi")}
    before = {path: path.read_bytes() for path in files.iterdir()}
    assert run(["report", paths["fused"], "-o", paths["fused"]]) == 2
    assert run(["report", paths["fused"], "--reference", paths["reference"], "-o", paths["reference"]]) == 2
    out = str(tmp_path / "out.tif")
    for page in (paths["hsi"], out):
        assert run(["run", paths["hsi"], paths["msi"], "--method", "bicubic", "-o", out, "--report", page]) == 2
    said = capsys.readouterr().err
    assert "is an input of this run" in said and "as the result and as the page" in said
    assert {path: path.read_bytes() for path in files.iterdir()} == before and not (tmp_path / "out.tif").exists()


def test_figures_go_nowhere_else(scenes, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OutputError, match="choose a folder"):
        write_figures(gather_content(scenes["fused"]), blocked)
