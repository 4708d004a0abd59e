/* SPDX-License-Identifier: Apache-2.0
 * What people ask a catalog first: its views, and the indexes that make queries by path, label,
 * hash or tag quick.
 *
 * A view is only text in the file until it is asked. Indexes are made at the end of an ingest:
 * sorting once is far cheaper than keeping an index while rows come in. */
#include "internal.h"

static const char views[] =
    "CREATE VIEW IF NOT EXISTS stats AS SELECT hash, mean_0, mean_1, mean_2,"
    " deviation_0, deviation_1, deviation_2, min_0, min_1, min_2, max_0, max_1, max_2,"
    " sharpness, entropy, dhash, histogram FROM blobs;"

    "CREATE VIEW IF NOT EXISTS class_counts AS\n"
    " SELECT label, name, coalesce(sum(split = 'train'), 0) AS train,\n"
    "  coalesce(sum(split = 'val'), 0) AS val, coalesce(sum(split = 'test'), 0) AS test,\n"
    "  count(split) AS images\n"
    " FROM classes LEFT JOIN images USING(label) GROUP BY label;"

    "CREATE VIEW IF NOT EXISTS size_histogram AS\n"
    " SELECT width, height, channels, count(*) AS images\n"
    " FROM images JOIN blobs ON blobs.id = images.blob GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2;"

    "CREATE VIEW IF NOT EXISTS duplicates AS -- a row a place of each content in several places\n"
    " SELECT hash, places, path, split, name AS class\n"
    " FROM (SELECT hash, count(*) AS places FROM images GROUP BY hash HAVING count(*) > 1)\n"
    " JOIN images USING(hash) JOIN classes USING(label) ORDER BY hash, path;"

    "CREATE VIEW IF NOT EXISTS suspects AS -- pictures to look at, each with its reason\n"
    " WITH usual(pixels) AS (SELECT CAST(h.value AS INTEGER) * CAST(w.value AS INTEGER)\n"
    "   FROM meta h, meta w WHERE h.key = 'height' AND w.key = 'width'),\n"
    " p AS (SELECT hash, width, height, channels, min_0, min_1, min_2,\n"
    "   min_0 = max_0 AND coalesce(min_1 = max_1, 1) AND coalesce(min_2 = max_2, 1) AS constant,\n"
    "   max(deviation_0, coalesce(deviation_1, 0), coalesce(deviation_2, 0)) AS deviation,\n"
    "   max(mean_0, coalesce(mean_1, 0), coalesce(mean_2, 0)) AS lightest,\n"
    "   min(mean_0, coalesce(mean_1, 255), coalesce(mean_2, 255)) AS darkest FROM blobs),\n"
    " found(hash, reason, detail) AS (\n"
    "  SELECT hash, 'constant', 'every pixel is ' || min_0 ||\n"
    "    CASE channels WHEN 3 THEN ', ' || min_1 || ', ' || min_2 ELSE '' END\n"
    "   FROM p WHERE constant\n"
    "  UNION ALL SELECT hash, 'flat', printf('deviation %.1f of 255', deviation)\n"
    "   FROM p WHERE deviation < 3 AND NOT constant\n"
    "  UNION ALL SELECT hash, 'dark', printf('mean %.1f of 255', lightest)\n"
    "   FROM p WHERE lightest < 10 AND NOT constant\n"
    "  UNION ALL SELECT hash, 'bright', printf('mean %.1f of 255', darkest)\n"
    "   FROM p WHERE darkest > 245 AND NOT constant\n"
    "  UNION ALL SELECT hash, 'tiny', width || ' x ' || height FROM p, usual\n"
    "   WHERE width * height < pixels\n"
    "    AND (min(width, height) < 8 OR width * height * 64 < pixels)\n"
    "  UNION ALL SELECT hash, 'extreme-aspect', width || ' x ' || height FROM p\n"
    "   WHERE max(width, height) >= 4 * min(width, height)\n"
    "  UNION ALL SELECT hash, 'two-classes', group_concat(DISTINCT name)\n"
    "   FROM images JOIN classes USING(label) GROUP BY hash HAVING min(label) < max(label)\n"
    "  UNION ALL SELECT hash, 'two-splits', group_concat(DISTINCT split)\n"
    "   FROM images GROUP BY hash HAVING min(split) < max(split))\n"
    " SELECT path, split, name AS class, reason, detail, hash\n"
    " FROM found CROSS JOIN images USING(hash) JOIN classes USING(label);";

static const char *const indexes[] = {
    "CREATE UNIQUE INDEX IF NOT EXISTS images_path ON images(path)",
    "CREATE UNIQUE INDEX IF NOT EXISTS blobs_hash ON blobs(hash)",
    "CREATE INDEX IF NOT EXISTS images_label ON images(label, split)",
    "CREATE INDEX IF NOT EXISTS images_hash ON images(hash)",
    "CREATE INDEX IF NOT EXISTS exif_hash ON exif(hash)",
    "CREATE INDEX IF NOT EXISTS exif_tag ON exif(tag, value)",
};

int at_catalog_add_views(at_db *db, at_error *err)
{
    return at_db_exec(db, views, err);
}

/* SQLite gathers as much as its cache may hold, 4 MB at least, before it sorts, in a thread of its own
 * if it may have one. The disk writes one index while the next is made. */
int at_catalog_add_indexes(at_db *db, at_error *err)
{
    int code = at_db_exec(db, "PRAGMA threads = 1", err);
    for (size_t i = 0; code == 0 && i < sizeof indexes / sizeof *indexes; i++) {
        at_db_write_ahead(db);
        code = at_db_exec(db, indexes[i], err);
    }
    return code;
}
