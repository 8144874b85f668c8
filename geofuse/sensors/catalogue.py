"""The sensors that geofuse knows: names, bands and where their responses come from. Data only; :mod:`loading` builds the curves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BandEntry:
    """One band: its name, the words it answers to, and its curve.

    The curve is ``table`` (a key of pyrsr's table), ``edges_nm`` (published half-maximum edges) or ``center_fwhm_nm`` (a
    Gaussian); exactly one of them is given.
    """

    name: str
    words: tuple[str, ...]
    table: str | None = None
    edges_nm: tuple[float, float] | None = None
    center_fwhm_nm: tuple[float, float] | None = None

    @property
    def kind(self) -> str:
        """Return ``"pan"``, ``"cirrus"``, ``"thermal"`` or ``"reflective"``, as the first word says."""
        first = self.words[0] if self.words else ""
        return next((kind for kind in ("pan", "cirrus", "thermal") if first.startswith(kind)), "reflective")


@dataclass(frozen=True)
class SensorEntry:
    """One sensor; ``table`` is pyrsr's (satellite, instrument) where its bands are tabulated there."""

    name: str
    title: str
    aliases: tuple[str, ...]
    source: str
    bands: tuple[BandEntry, ...]
    table: tuple[str, str] | None = None

    @property
    def approximate(self) -> bool:
        """True where the curves are not measured tables."""
        return self.table is None


def _tabulated(text: str) -> tuple[BandEntry, ...]:
    """Read ``"1 coastal; 2 blue"``: pyrsr's key, then words. The band is called B and the key; ``4=PAN`` names it otherwise."""
    bands = []
    for part in text.split(";"):
        key, *words = part.split()
        key, _, name = key.partition("=")
        bands.append(BandEntry(name or f"B{key}", tuple(words), table=key))
    return tuple(bands)


def _edged(text: str) -> tuple[BandEntry, ...]:
    """Read ``"blue 450-510; green 510-580"``: words, then edges in nm. Bands go by their colour and, but for pan, a number."""
    bands: list[BandEntry] = []
    for part in text.split(";"):
        *words, edges = part.split()
        low, high = (float(edge) for edge in edges.split("-"))
        number = () if words[0] == "pan" else (f"B{len(bands) + 1}",)
        name = words[0].upper() if words[0] == "pan" else words[0]
        bands.append(BandEntry(name, (*words, *number), edges_nm=(low, high)))
    return tuple(bands)


def _gaussian(text: str) -> tuple[BandEntry, ...]:
    """Read ``"red 640/70"``: words, then centre/FWHM in nm."""
    bands: list[BandEntry] = []
    for part in text.split(";"):
        *words, shape = part.split()
        center, width = (float(number) for number in shape.split("/"))
        bands.append(BandEntry(words[0], (*words, f"B{len(bands) + 1}"), center_fwhm_nm=(center, width)))
    return tuple(bands)


def _numbered(text: str) -> tuple[BandEntry, ...]:
    """Read ``"B1 coastal 444.2~20"``: name, words, then centre~width in nm between half-maximum edges."""
    bands = []
    for part in text.split(";"):
        name, *words, shape = part.split()
        center, width = (float(number) for number in shape.split("~"))
        bands.append(BandEntry(name, tuple(words), edges_nm=(center - width / 2, center + width / 2)))
    return tuple(bands)


_TM = _tabulated("1 blue; 2 green; 3 red; 4 nir nir08; 5 swir1 swir; 6 thermal; 7 swir2")
_ETM = _tabulated("1 blue; 2 green; 3 red; 4 nir nir08; 5 swir1 swir; 6L thermal B6; 6H thermal; 7 swir2; 8 pan")
_OLI = _tabulated(
    "1 coastal; 2 blue; 3 green; 4 red; 5 nir nir08; 6 swir1 swir; 7 swir2; 8 pan; 9 cirrus; 10 thermal1 thermal; "
    "11 thermal2 thermal"
)
_MSI = _tabulated(
    "1 coastal; 2 blue; 3 green; 4 red; 5 rededge1; 6 rededge2; 7 rededge3; 8 nir; 8A nir08; 9 watervapour; 10 cirrus; "
    "11 swir1 swir; 12 swir2"
)
# Band 3B looks backward with the same filter as 3N; no product stacks it with the others.
_ASTER = _tabulated(
    "1 green; 2 red; 3N nir B3; 4 swir1 swir; 5; 6; 7; 8; 9; 10 thermal; 11 thermal; 12 thermal; 13 thermal; 14 thermal"
)
_MODIS = _tabulated("1 red; 2 nir; 3 blue; 4 green; 5; 6 swir1 swir; 7 swir2; 8; 9; 10; 11; 12; 13; 14; 15; 16")
_SPOT123 = _tabulated("1 green XS1; 2 red XS2; 3 nir XS3; 4=PAN pan")
_SPOT45 = _tabulated("1 green XS1; 2 red XS2; 3 nir XS3; 4 swir1 swir; 5=PAN pan")

_TABULATED = (
    SensorEntry("landsat4", "Landsat 4 TM", ("l4", "lt04", "landsat4-tm"), "USGS L4_TM_RSR", _TM, ("Landsat-4", "TM")),
    SensorEntry("landsat5", "Landsat 5 TM", ("l5", "lt05", "tm", "landsat5-tm"), "USGS L5_TM_RSR", _TM, ("Landsat-5", "TM")),
    SensorEntry("landsat7", "Landsat 7 ETM+", ("l7", "le07", "etm", "landsat7-etm"), "USGS L7_RSR", _ETM, ("Landsat-7", "ETM+")),
    SensorEntry(
        "landsat8",
        "Landsat 8 OLI/TIRS",
        ("l8", "lc08", "oli", "landsat8-oli"),
        "NASA Ball_BA_RSR v1.2",
        _OLI,
        ("Landsat-8", "OLI_TIRS"),
    ),
    SensorEntry(
        "landsat9",
        "Landsat 9 OLI-2/TIRS-2",
        ("l9", "lc09", "oli2", "landsat9-oli2"),
        "NASA L9_OLI2_Ball_BA_RSR v1.0",
        _OLI,
        ("Landsat-9", "OLI_TIRS"),
    ),
    SensorEntry(
        "sentinel2a", "Sentinel-2A MSI", ("s2a", "s2", "sentinel2", "sentinel2-msi"), "ESA S2-SRF 3.0", _MSI, ("Sentinel-2A", "MSI")
    ),
    SensorEntry("sentinel2b", "Sentinel-2B MSI", ("s2b",), "ESA S2-SRF 3.0", _MSI, ("Sentinel-2B", "MSI")),
    SensorEntry("aster", "Terra ASTER", ("terra-aster",), "USGS ASTER-RSR", _ASTER, ("Terra", "ASTER")),
    SensorEntry("modis", "Terra MODIS, bands 1-16", ("modis-terra", "mod09"), "NASA HMODIST_RSRs", _MODIS, ("Terra", "MODIS")),
    SensorEntry("modis-aqua", "Aqua MODIS, bands 1-16", ("aqua", "myd09"), "NASA HMODISA_RSRs", _MODIS, ("Aqua", "MODIS")),
    SensorEntry(
        "rapideye",
        "RapidEye MSI",
        ("rapideye5",),
        "BlackBridge 2014",
        _tabulated("1 blue; 2 green; 3 red; 4 rededge; 5 nir"),
        ("RapidEye", "MSI"),
    ),
) + tuple(
    SensorEntry(
        f"spot{number}{suffix}",
        f"SPOT {number} {instrument}{camera}",
        (f"spot{number}-{instrument}{camera}".lower(),),
        "no origin stated",
        _SPOT45 if number >= 4 else _SPOT123,
        (f"SPOT-{number}", f"{instrument}{camera}"),
    )
    for number, instrument in ((1, "HRV"), (2, "HRV"), (3, "HRV"), (4, "HRVIR"), (5, "HRG"))
    for camera, suffix in ((1, ""), (2, "-2"))
)

_APPROXIMATE = (
    SensorEntry(
        "worldview2",
        "WorldView-2",
        ("wv2", "wv02"),
        "DigitalGlobe band edges",
        _edged(
            "coastal 400-450; blue 450-510; green 510-580; yellow 585-625; red 630-690; rededge 705-745; nir1 nir 770-895; "
            "nir2 860-1040; pan 450-800"
        ),
    ),
    SensorEntry(
        "worldview3",
        "WorldView-3 VNIR",
        ("wv3", "wv03"),
        "DigitalGlobe band edges",
        _edged(
            "coastal 400-450; blue 450-510; green 510-580; yellow 585-625; red 630-690; rededge 705-745; nir1 nir 770-895; "
            "nir2 860-1040; pan 450-800"
        ),
    ),
    SensorEntry(
        "ikonos",
        "IKONOS",
        ("ikonos2",),
        "GeoEye band edges",
        _edged("blue 445-516; green 506-595; red 632-698; nir 757-853; pan 526-929"),
    ),
    SensorEntry(
        "quickbird",
        "QuickBird",
        ("qb", "qb02", "quickbird2"),
        "DigitalGlobe nominal band edges",
        _edged("blue 450-520; green 520-600; red 630-690; nir 760-900; pan 450-900"),
    ),
    SensorEntry(
        "geoeye1",
        "GeoEye-1",
        ("ge1", "ge01", "geoeye"),
        "GeoEye band edges",
        _edged("blue 450-510; green 510-580; red 655-690; nir 780-920; pan 450-800"),
    ),
    SensorEntry(
        "superdove",
        "PlanetScope SuperDove, 8 bands",
        ("planetscope", "planetscope8", "planet", "psbsd", "ps8"),
        "Planet band edges, PSB.SD",
        _edged(
            "coastal 431-452; blue 465-515; greeni 513-549; green greenii 547-583; yellow 600-620; red 650-680; rededge 697-713; "
            "nir 845-885"
        ),
    ),
    SensorEntry(
        "planetscope4",
        "PlanetScope Dove, 4 bands",
        ("dove", "ps2", "ps4"),
        "Planet band edges, PS2",
        _edged("blue 455-515; green 500-590; red 590-670; nir 780-860"),
    ),
    SensorEntry(
        "gaofen2",
        "GaoFen-2 PMS",
        ("gf2", "gf02"),
        "CRESDA band edges",
        _edged("blue 450-520; green 520-590; red 630-690; nir 770-890; pan 450-900"),
    ),
    SensorEntry(
        "sentinel2c",
        "Sentinel-2C MSI",
        ("s2c",),
        "ESA centres of 2024 (B9, B10 nominal), widths as Sentinel-2A/B",
        _numbered(
            "B1 coastal 444.2~20; B2 blue 489~65; B3 green 560.6~35; B4 red 666.5~30; B5 rededge1 707.1~15; B6 rededge2 741.1~14; "
            "B7 rededge3 784.7~20; B8 nir 834.6~105; B8A nir08 865.6~21; B9 watervapour 945~20; B10 cirrus 1375~30; "
            "B11 swir1 swir 1612~92; B12 swir2 2191.3~180"
        ),
    ),
    SensorEntry(
        "ali",
        "EO-1 ALI",
        ("eo1", "eo1-ali"),
        "USGS EO-1 band edges",
        _numbered(
            "B1 pan 585~210; B2 coastal 443~20; B3 blue 482.5~65; B4 green 565~80; B5 red 660~60; B6 nir 790~30; "
            "B7 nir08 867.5~45; B8 1250~100; B9 swir1 swir 1650~200; B10 swir2 2215~270"
        ),
    ),
    SensorEntry(
        "naip",
        "NAIP, Leica ADS100 camera",
        ("ads100", "ads"),
        "Leica ADS100 band edges; other NAIP years used other cameras",
        _edged("red 619-651; green 525-585; blue 435-495; nir 808-882"),
    ),
    SensorEntry(
        "aerial-rgb",
        "Generic aerial RGB camera",
        ("aerial", "airborne-rgb"),
        "Gaussians over the ranges of UltraCam-class cameras; no particular camera",
        _gaussian("red 640/80; green 555/100; blue 475/87"),
    ),
    SensorEntry(
        "rgb",
        "RGB camera, three Gaussians",
        ("rgb-gaussian", "cave"),
        "Gaussians at 640, 550, 460 nm, FWHM 70 nm",
        _gaussian("red 640/70; green 550/70; blue 460/70"),
    ),
)

SENSORS: tuple[SensorEntry, ...] = _TABULATED + _APPROXIMATE
