"""What the fake bucket holds in tests of the download, and how they look at the result."""

import csv
from pathlib import Path

import numpy as np
from fake_bucket import FakeBucket

from data_prep import downloads
from data_prep.downloads import Download
from data_prep.patience import Retries
from data_prep.sen1floods11 import bucket, layout

QUICK = Retries(attempts=4, first_wait_s=0.001)
CHIPS = {
    "flood_train_data.csv": "Sri-Lanka_11",
    "flood_valid_data.csv": "Ghana_22",
    "flood_test_data.csv": "Ghana_33",
    "flood_bolivia_data.csv": "Bolivia_44",
}
WEAK_CHIPS = ("Ghana_5", "Colombia_6")
HAND = f"v1.1/{layout.HAND_FOLDER}"
WEAK = f"v1.1/{layout.WEAK_FOLDER}"
SPLITS = "v1.1/splits/flood_handlabeled"
TABLE = "v1.1/Sen1Floods11_Metadata.geojson"
S1 = f"{HAND}/S1Hand/Ghana_22_S1Hand.tif"
OTHER_S1 = f"{HAND}/S1Hand/Ghana_33_S1Hand.tif"
_STRAY = f"{WEAK}/.DS_Store"


def noise(seed: int, size: int) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8).tobytes()


def fill(server: FakeBucket) -> None:
    """Puts four hand-labelled chips in five layers, two weak ones in four, and what lies beside them. S1 is 200 kB."""
    hand, weak = (*bucket.HAND, "S1OtsuLabelHand"), (*bucket.WEAK, "S1OtsuLabelWeak")
    names = [f"{HAND}/{layer}/{chip}_{layer}.tif" for layer in hand for chip in CHIPS.values()]
    names += [f"{WEAK}/{layer}/{chip}_{layer}.tif" for layer in weak for chip in WEAK_CHIPS]
    names += ["v1.1/catalog/collection.json", TABLE, _STRAY]
    for seed, name in enumerate(names):
        server.put(name, noise(seed, 1000 + seed))
    for name in ("v1.1/empty.txt", f"{WEAK}/"):
        server.put(name, b"")
    server.put(S1, noise(99, 200_000))
    for name, chip in CHIPS.items():
        server.put(f"{SPLITS}/{name}", f"{chip}_S1Hand.tif,{chip}_LabelHand.tif\r\n".encode())


def download(server: FakeBucket, output_dir: Path, **arguments: object) -> Download:
    return downloads.download(output_dir, **{"base_url": server.url, "retries": QUICK, "num_workers": 4} | arguments)


def download_s1(server: FakeBucket, output_dir: Path, **arguments: object) -> Download:
    """Downloads `S1`, `OTHER_S1`, four lists and a table."""
    return download(server, output_dir, layers=["S1Hand"], events=["Ghana"], **arguments)


def wanted(server: FakeBucket) -> dict[str, bytes]:
    """Returns what a whole mirror holds."""
    return {name: one.data for name, one in server.objects.items() if name != _STRAY and not name.endswith("/")}


def on_disk(output_dir: Path) -> dict[str, bytes]:
    """Returns all files but the download's own."""
    own = (downloads.MANIFEST, downloads.MISSING)
    paths = [path for path in output_dir.rglob("*") if path.is_file() and path.name not in own]
    return {str(path.relative_to(output_dir)): path.read_bytes() for path in paths}


def manifest(output_dir: Path) -> dict[str, dict[str, str]]:
    with (output_dir / "v1.1" / downloads.MANIFEST).open(newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}
