#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a data set's catalog as one Parquet file, a row an image, for pandas, DuckDB, Spark and the like.

    python3 examples/catalog_to_parquet.py DATASET OUT.parquet

Needs pyarrow. Columns: path, split, label, class, hash, time of change, then what catalog.db has of the content
(docs/formats.md), the histogram as a list of shares in 0..1, EXIF as JSON text. A data set with coarse labels
(CIFAR-100) has the columns coarse_label and coarse_class, too.
"""
import argparse
import pathlib
import sqlite3
import struct
import sys

import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 50_000  # of a row group, and in memory at a time

IMAGE = [("path", pa.string()), ("split", pa.dictionary(pa.int8(), pa.string())), ("label", pa.int32()),
         ("class", pa.dictionary(pa.int32(), pa.string())), ("hash", pa.string()), ("mtime", pa.timestamp("s", tz="UTC"))]
CONTENT = [("bytes", pa.int64()), ("format", pa.string()), ("width", pa.int32()), ("height", pa.int32()),
           ("channels", pa.int8()), ("bit_depth", pa.int8()), ("mode", pa.string())]
CONTENT += [(f"{name}_{c}", kind) for name, kind in (("mean", pa.float32()), ("deviation", pa.float32()),
                                                     ("min", pa.int16()), ("max", pa.int16())) for c in range(3)]
CONTENT += [("sharpness", pa.float32()), ("entropy", pa.float32()), ("dhash", pa.int64()),
            ("histogram", pa.list_(pa.float32())), ("exif", pa.string())]
COARSE = [("coarse_label", pa.int32()), ("coarse_class", pa.dictionary(pa.int32(), pa.string()))]


def shares(histogram):
    """The catalog's u16 shares, 65535 is all, as fractions."""
    if histogram is None:
        return None
    return [v / 65535 for v in struct.unpack(f"<{len(histogram) // 2}H", histogram)]


def has_coarse(db):
    return db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'coarse_labels'").fetchone()[0] > 0


def batches(db, schema):
    columns = ["i.path", "i.split", "i.label", "c.name", "i.hash", "i.mtime"] + [f"b.{name}" for name, _ in CONTENT]
    tables = "images i JOIN blobs b ON b.id = i.blob JOIN classes c ON c.label = i.label"
    if has_coarse(db):
        columns += ["k.label", "k.name"]
        tables += " LEFT JOIN coarse_labels l ON l.image = i.id LEFT JOIN coarse_classes k ON k.label = l.label"
    rows = db.execute(f"SELECT {', '.join(columns)} FROM {tables} ORDER BY i.path")
    histogram = schema.get_field_index("histogram")
    while part := rows.fetchmany(ROWS):
        values = [list(column) for column in zip(*part)]
        values[histogram] = [shares(h) for h in values[histogram]]
        yield pa.record_batch([pa.array(v, field.type) for v, field in zip(values, schema)], schema=schema)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("dataset", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    args = parser.parse_args()
    catalog = args.dataset.resolve() / "catalog.db"
    if not catalog.exists():
        sys.exit(f"{args.dataset} is no data set: it has no catalog.db")
    db = sqlite3.connect(f"{catalog.as_uri()}?mode=ro", uri=True)
    meta = dict(db.execute("SELECT key, value FROM meta"))
    if int(meta.get("format", 0)) < 2:
        sys.exit(f"{args.dataset} was made by an earlier atoll: ingest {meta.get('source', 'its source')} again")
    facts = {key: meta[key] for key in ("dataset_hash", "source", "atoll") if key in meta}
    schema = pa.schema(IMAGE + CONTENT + (COARSE if has_coarse(db) else []), metadata=facts)
    images = 0
    with pq.ParquetWriter(args.out, schema, compression="zstd") as writer:
        for batch in batches(db, schema):
            writer.write_batch(batch)
            images += batch.num_rows
    print(f"{images} images: {args.out}")


if __name__ == "__main__":
    main()
