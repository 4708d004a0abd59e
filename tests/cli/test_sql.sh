#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# atoll sql as people and scripts meet it: tables, CSV, JSON, a terminal, and what is refused.
# ctest: timeout=60
source "$ATOLL_SOURCE/tests/support/cli.sh"
# prints TEXT: all of stdout
prints() { [ "$(cat out)" = "$1" ] || fail "expected
$1
but it printed
$(cat out)"; }

python3 - <<'PY' || { echo "skipped sql: no python3 with sqlite3"; exit 77; }
import os, sqlite3
os.mkdir("data")
db = sqlite3.connect("data/catalog.db")
db.execute("CREATE TABLE t(name, n, x REAL, data BLOB)")
db.executemany("INSERT INTO t VALUES(?,?,?,?)", [
    ("plain", 7, 1.5, b"\x00\x01\xfe\xff\x10\x11"),
    ('says "a, b"', 123456, -0.25, b"\xab"),
    ("two\nlines\x1b[31m", None, None, b""),
    ("日本", 3, 1e300, None), ("", 4, 2.0, None)])
db.execute("CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT)")
db.execute("INSERT INTO meta VALUES('format', '1')")
db.commit()
PY

# ---- a table: numbers to the right, texts to the left, nothing moves the cursor
expect 0 "$ATOLL" sql data 'SELECT name, n, x FROM t'
prints 'name                     n       x
plain                    7     1.5
says "a, b"         123456   -0.25
two\nlines\x1B[31m    NULL    NULL
日本                     3  1e+300
                         4       2'
expect 0 "$ATOLL" sql data 'SELECT 148.17578125 AS a, 100.0 AS b, 0.0 AS c, 1732190000.5 AS d, 1e-9 AS e'
prints '       a    b  c             d      e
148.1758  100  0  1732190000.5  1e-09'
expect 0 "$ATOLL" sql data 'SELECT data FROM t LIMIT 3'
prints 'data
0001feff… (6 bytes)
ab (1 bytes)
 (0 bytes)'
expect 0 "$ATOLL" sql data 'SELECT name, n FROM t WHERE n > 1e9'
prints 'name  n'

# ---- CSV and JSON: nothing is lost
expect 0 "$ATOLL" sql data 'SELECT * FROM t' --csv
python3 - out <<'PY' || fail "CSV reads back otherwise"
import csv, sys
rows = list(csv.reader(open(sys.argv[1], newline="")))
assert rows[0] == ["name", "n", "x", "data"], rows[0]
assert rows[1] == ["plain", "7", "1.5", "0001feff1011"], rows[1]
assert rows[2] == ['says "a, b"', "123456", "-0.25", "ab"], rows[2]
assert rows[3] == ["two\nlines\x1b[31m", "", "", ""], rows[3]
assert rows[5][0] == "" and len(rows) == 6, rows
PY
grep -q '^"",4,2.0,$' out || fail "an empty text is not told from NULL: $(cat out)"
expect 0 "$ATOLL" sql data 'WITH b AS (SELECT randomblob(9001) AS x) SELECT x, lower(hex(x)) FROM b' --csv
[ "$(tail -1 out | cut -d, -f1)" = "$(tail -1 out | cut -d, -f2)" ] && [ "$(tail -1 out | wc -c)" = 36006 ] ||
    fail "a long blob is told otherwise than by SQLite's hex()"
expect 0 "$ATOLL" sql data 'SELECT * FROM t' --json
python3 - out <<'PY' || fail "JSON reads back otherwise"
import json, sys
got = json.load(open(sys.argv[1]))
assert got["columns"] == ["name", "n", "x", "data"], got
assert got["rows"][0] == {"name": "plain", "n": 7, "x": 1.5, "data": "0001feff1011"}, got["rows"][0]
assert got["rows"][2] == {"name": "two\nlines\x1b[31m", "n": None, "x": None, "data": ""}, got["rows"][2]
assert got["rows"][3] == {"name": "日本", "n": 3, "x": 1e300, "data": None}, got["rows"][3]
PY
expect 0 "$ATOLL" sql data 'SELECT 1 WHERE 0' --json
prints '{"columns":["1"],"rows":[]}'

# ---- many rows: the widths follow the first thousand
expect 0 "$ATOLL" sql data \
    "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 30000) SELECT i, 'x' AS x FROM c"
[ "$(wc -l <out)" = 30001 ] || fail "$(wc -l <out) lines"
[ "$(sed -n '2p;30001p' out)" = '   1  x
30000  x' ] || fail "$(sed -n '2p;30001p' out)"

# ---- a terminal of 40 columns: wide cells are cut, narrow ones stay
if command -v script >/dev/null; then
    script -qec "stty cols 40; '$ATOLL' sql data \"SELECT printf('%050d', 7) AS wide, n, 'end' AS tail FROM t LIMIT 2\"" \
        /dev/null </dev/null | tr -d '\r' | sed 's/…/~/g' >out
    awk '{ if (length($0) > 40) exit 1 }' out || fail "wider than the terminal: $(cat out)"
    grep -q '0~  *7  end$' out || fail "not cut: $(cat out)"
fi

# ---- refused by name
for sql in 'DELETE FROM t' 'insert into t values(1,2,3,4)' 'DROP TABLE t' "VACUUM INTO 'copy.db'" 'CREATE TABLE u(a)'; do
    expect 2 "$ATOLL" sql data "$sql"
    says err "\"${sql%% *}\" changes the database: this command only reads"
done
[ ! -e copy.db ] || fail 'VACUUM INTO wrote a file'
expect 3 "$ATOLL" sql data 'SELECT * FROM class_counts'
says err 'ingested again'
expect 3 "$ATOLL" sql data 'SELEKT 1'
sqlite_free=$(mktemp -d ./new.XXXX)
python3 -c "import sqlite3; db = sqlite3.connect('$sqlite_free/catalog.db'); db.execute('CREATE TABLE pictures(a)'); db.commit()"
expect 3 "$ATOLL" sql "$sqlite_free" 'SELECT * FROM images'
says err 'there are: pictures'
expect 2 "$ATOLL" sql data 'SELECT 1' --json --csv
[ "$("$ATOLL" sql data 'SELECT count(*) FROM t' --csv | tail -1)" = 5 ] || fail 'rows are gone'

# ---- a query without end ends at Ctrl-C, and where a time limit says so
for signal in INT TERM; do
    expect 4 timeout --preserve-status -k 60 -s $signal 2 "$ATOLL" sql data \
        'WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c) SELECT count(*) FROM c'
    says err 'interrupted'
done
echo "tables, CSV and JSON agree with what went in"
