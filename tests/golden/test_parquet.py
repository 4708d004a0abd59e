#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=120
"""examples/catalog_to_parquet.py: what pyarrow reads back is what the catalog says."""
import os
import pathlib
import random
import sqlite3
import subprocess
import sys
import tempfile

try:
    import pyarrow.parquet as pq
except ImportError:
    print("skipped parquet: the virtual environment has no pyarrow (scripts/setup --tests installs it from PyPI)")
    sys.exit(77)
from PIL import Image

ATOLL, SCRIPT = os.environ["ATOLL"], pathlib.Path(os.environ["ATOLL_SOURCE"]) / "examples/catalog_to_parquet.py"


def make_source(folder):
    rng = random.Random(1)
    for i in range(24):
        mode = "L" if i % 3 == 0 else "RGB"
        image = Image.frombytes(mode, (12, 10), rng.randbytes(120 * len(mode)))
        path = folder / ("train" if i % 4 else "test") / ("cat" if i % 2 else "dög") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[0x010F] = "Maker"
        image.save(path, exif=exif if i % 5 == 0 else None)


def main():
    with tempfile.TemporaryDirectory() as place:
        place = pathlib.Path(place)
        make_source(place / "source")
        subprocess.run([ATOLL, "ingest", place / "source", "--out", place / "data", "--allow-missing-classes", "--quiet"],
                       check=True)
        subprocess.run([sys.executable, SCRIPT, place / "data", place / "all.parquet"], check=True)
        table = pq.read_table(place / "all.parquet").to_pylist()
        db = sqlite3.connect(place / "data/catalog.db")
        rows = {r[0]: r[1:] for r in db.execute(
            "SELECT path, split, c.name, hash, i.mtime, width, height, b.channels, mode, mean_0, max_2, dhash, entropy,"
            " b.exif FROM images i JOIN blobs b USING (hash) JOIN classes c USING (label)")}
        assert len(table) == len(rows) == 24, (len(table), len(rows))
        for row in table:
            split, name, content, mtime, width, height, channels, mode, mean, most, dhash, entropy, exif = rows[row["path"]]
            assert (row["split"], row["class"], row["hash"]) == (split, name, content), row
            assert (row["width"], row["height"], row["channels"], row["mode"]) == (width, height, channels, mode), row
            assert row["mtime"].timestamp() == mtime and row["dhash"] == dhash and row["exif"] == exif, row
            assert abs(row["mean_0"] - mean) < 1e-4 and row["max_2"] == most and abs(row["entropy"] - entropy) < 1e-5, row
            assert len(row["histogram"]) == 16 * channels, row
            assert abs(sum(row["histogram"]) - channels) < 1e-3, row
        assert sum(row["exif"] is not None for row in table) == 5
        assert pq.read_schema(place / "all.parquet").metadata[b"dataset_hash"].decode() == dict(
            db.execute("SELECT key, value FROM meta"))["dataset_hash"]
        assert "coarse_label" not in table[0], table[0]
        db.executescript("CREATE TABLE coarse_labels(image INTEGER PRIMARY KEY, label); CREATE TABLE coarse_classes(label, name);"
                         "INSERT INTO coarse_classes VALUES(0, 'fish'), (1, 'trees');"
                         "INSERT INTO coarse_labels SELECT id, id % 2 FROM images WHERE id % 3;")
        wanted = dict(db.execute("SELECT path, name FROM images LEFT JOIN coarse_labels l ON l.image = id"
                                 " LEFT JOIN coarse_classes k ON k.label = l.label"))
        db.close()
        subprocess.run([sys.executable, SCRIPT, place / "data", place / "coarse.parquet"], check=True)
        coarse = pq.read_table(place / "coarse.parquet").to_pylist()
        assert {row["path"]: row["coarse_class"] for row in coarse} == wanted and len(set(wanted.values())) == 3, wanted
        assert all(row["coarse_label"] == {"fish": 0, "trees": 1}.get(row["coarse_class"]) for row in coarse), coarse
        refused = subprocess.run([sys.executable, SCRIPT, place, place / "none.parquet"], capture_output=True, text=True)
        assert refused.returncode and "no data set" in refused.stderr, refused
    print(f"{len(table)} images read back from Parquet as the catalog has them")


main()
