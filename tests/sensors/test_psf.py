"""Point spread functions: sums, symmetry, widths, the round trip through tags, kernel files."""

import io
import json

import numpy as np
import pytest

from geofuse.errors import GeofuseError, InputError, MissingFileError, UsageError
from geofuse.sensors import Psf

RATIOS = (2, 3, 4, 5, 10, 40)
KINDS = ("bicubic", "box", "gaussian:0.5", "gaussian", "gaussian:1.7")


def npy(array):
    """The bytes of an .npy file."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def kernel_of(psf, ratio):
    """Sum the separable terms up to the kernel on the fine grid."""
    return sum(np.outer(down, across) for down, across in psf.separable_terms(ratio))


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("text", KINDS)
def test_kernels_sum_to_one_and_are_symmetric_about_the_coarse_pixels_centre(text, ratio):
    kernel = kernel_of(Psf.parse(text), ratio)
    assert kernel.sum() == pytest.approx(1, abs=1e-12)
    assert all(size % 2 == ratio % 2 for size in kernel.shape)
    np.testing.assert_allclose(kernel, kernel[::-1], atol=1e-15)
    np.testing.assert_allclose(kernel, kernel[:, ::-1], atol=1e-15)
    np.testing.assert_allclose(kernel, kernel.T, atol=1e-15)


@pytest.mark.parametrize("ratio", RATIOS)
def test_a_box_is_the_mean_of_the_coarse_pixel(ratio):
    np.testing.assert_allclose(kernel_of(Psf("box"), ratio), np.full((ratio, ratio), ratio**-2.0))


@pytest.mark.parametrize("fwhm", [0.5, 1.0, 1.7, 3.0])
def test_a_gaussian_has_the_width_asked_for_in_coarse_pixels(fwhm):
    ratio = 40
    (taps, _), *rest = Psf("gaussian", fwhm).separable_terms(ratio)
    assert not rest
    offset = np.arange(len(taps)) - (len(taps) - 1) / 2
    sigma = np.sqrt((taps * offset**2).sum())
    assert 2.3548 * sigma / ratio == pytest.approx(fwhm, rel=2e-3)


def test_bicubic_keeps_a_constant_and_a_slope_and_reaches_two_coarse_pixels():
    for ratio in RATIOS:
        (taps, _), *_ = Psf("bicubic").separable_terms(ratio)
        offset = np.arange(len(taps)) - (len(taps) - 1) / 2
        assert (taps * offset).sum() == pytest.approx(0, abs=1e-12)
        assert np.abs(offset).max() < 2 * ratio
        assert taps.min() < 0


@pytest.mark.parametrize("text", KINDS)
def test_tags_bring_the_same_psf_back(text):
    psf = Psf.parse(text)
    assert Psf.from_tag(psf.to_tag()) == psf
    assert "\n" not in psf.to_tag()


def test_a_kernels_tag_brings_it_back_to_the_last_bit():
    rng = np.random.default_rng(0)
    psf = Psf("kernel", kernel=tuple(map(tuple, rng.random((5, 7)).tolist())))
    assert Psf.from_tag(psf.to_tag()) == psf


@pytest.mark.parametrize(
    "tag",
    [
        "",
        "{",
        "[]",
        '"x"',
        "{}",
        '{"kind": "lens"}',
        '{"kind": "gaussian"}',
        '{"kind": "gaussian", "fwhm": "1"}',
        '{"kind": "kernel"}',
    ],
)
def test_a_tag_that_holds_no_psf_is_refused(tag):
    with pytest.raises(InputError):
        Psf.from_tag(tag)


@pytest.mark.parametrize("suffix", [".npy", ".csv", ".txt"])
@pytest.mark.parametrize("shape", [(5, 5), (7, 3)])
def test_a_kernel_file_is_normalised_and_kept_as_it_is(tmp_path, suffix, shape):
    array = np.random.default_rng(1).random(shape)
    path = tmp_path / f"psf{suffix}"
    np.save(path, array) if suffix == ".npy" else np.savetxt(path, array, delimiter="," if suffix == ".csv" else " ")
    psf = Psf.parse(str(path))
    np.testing.assert_allclose(psf.kernel, array / array.sum())
    np.testing.assert_allclose(kernel_of(psf, 3), array / array.sum(), atol=1e-12)
    assert f"{shape[0]} x {shape[1]}" in psf.label


def test_a_kernel_of_the_other_parity_than_the_ratio_is_refused():
    psf = Psf("kernel", kernel=tuple(map(tuple, np.ones((5, 5)))))
    assert psf.separable_terms(3)
    with pytest.raises(InputError, match="5 x 5 .* ratio 4 needs even sizes"):
        psf.separable_terms(4)


def test_a_kernel_that_is_separable_takes_one_term():
    taps = np.array([1.0, 3.0, 5.0, 3.0, 1.0])
    assert len(Psf("kernel", kernel=tuple(map(tuple, np.outer(taps, taps)))).separable_terms(5)) == 1


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"", "psf.npy"),
        (b"not numpy", "psf.npy"),
        (b"", "psf.csv"),
        (b"a,b\nc,d\n", "psf.csv"),
        (b"1,2\n3\n", "psf.csv"),
        (b"\xff\xfe\x00", "psf.txt"),
        (b"0,0\n0,0\n", "psf.csv"),
        (b"1,nan\n1,1\n", "psf.csv"),
        (b"1,inf\n1,1\n", "psf.csv"),
        (b" \n\n", "psf.txt"),
        (b"# only a remark\n", "psf.txt"),
        (npy(np.zeros((0, 3))), "psf.npy"),
        (npy(np.ones(3)), "psf.npy"),
        (npy(np.ones((2, 2), complex)), "psf.npy"),
        (npy(np.array([["a", "b"]])), "psf.npy"),
        (npy(np.ones((5, 5)))[:-8], "psf.npy"),
        (b"-1,-1\n-1,-1\n", "psf.csv"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_kernel_file_that_holds_no_kernel_is_refused(tmp_path, content, name):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=name) as caught:
        Psf.parse(str(path))
    assert "\n" not in str(caught.value)


def test_a_table_from_a_spreadsheet_is_read(tmp_path):
    (tmp_path / "psf.csv").write_bytes(b"\xef\xbb\xbf1,2,1\r\n2,4,2\r\n1,2,1\r\n")
    np.testing.assert_allclose(Psf.parse(str(tmp_path / "psf.csv")).kernel, np.outer([1, 2, 1], [1, 2, 1]) / 16)


def test_a_pickle_given_as_a_kernel_is_not_opened(tmp_path):
    path = tmp_path / "psf.npy"
    np.save(path, np.array([[object()]]), allow_pickle=True)
    with pytest.raises(InputError):
        Psf.parse(str(path))


def test_a_kernel_file_that_does_not_exist_is_said_to(tmp_path):
    with pytest.raises(MissingFileError, match="absent.csv"):
        Psf.parse(str(tmp_path / "absent.csv"))


@pytest.mark.parametrize(
    "text", ["", "lens", "gaussian:", "gaussian:wide", "gaussian:0", "gaussian:-1", "gaussian:99", "gaussian:nan", "box:2"]
)
def test_a_psf_that_is_none_is_refused(text):
    if text == "gaussian:":
        assert Psf.parse(text).fwhm == 1.0
        return
    with pytest.raises(UsageError):
        Psf.parse(text)


def test_parse_reads_names_whatever_their_case():
    assert Psf.parse(" Bicubic ") == Psf("bicubic")
    assert Psf.parse("Gaussian:1.2") == Psf("gaussian", 1.2)
    assert json.loads(Psf.parse("gaussian").to_tag()) == {"kind": "gaussian", "fwhm": 1.0}
    assert all(issubclass(error, GeofuseError) for error in (InputError, UsageError))
