#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Files with hostile names, as a user meets them: in tables, CSV, JSON, messages and on the page of a data set.
source "$ATOLL_SOURCE/tests/support/cli.sh" || exit 1
# red, one pixel
png() { echo "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC" | base64 -d; }
long=$(printf 'n%.0s' {1..250})
names=($'new\nline' $'tab\t' $'\e[31mred\e[2J' $'bell\a' $'csi\xc2\x9b31m' "'single'" '"double"' "'); DROP TABLE images; --"
    '<script>alert(1)</script>' '<img src=x onerror=alert(1)>' '</title><b>' 'a&amp;b' '{{7*7}}' 'javascript:alert(1)'
    '$(reboot)' '-dash' 'per%s%n%20cent' 'back\slash' $'caf\xe9' $'\xff\xfe' $'\xe2\x80\xaegnp' "$long")

# Each as a file's name, as the name of a file that is set aside, and as a class.
for name in "${names[@]}"; do
    slashless=${name//\//_}
    mkdir -p "photos/$slashless" photos/plain
    png >"photos/plain/$slashless.png"
    png >"photos/$slashless/1.png"
    echo text >"photos/plain/$slashless.txt"
done
count=${#names[@]}
expect 0 "$ATOLL" ingest photos --out data --json
says out "\"images\":$((2 * count)),\"errors\":$count"

# ---- a table shows no control character, and one row a line
expect 0 "$ATOLL" sql data "SELECT path FROM images UNION ALL SELECT path FROM errors UNION ALL SELECT name FROM classes"
[ "$(wc -l <out)" = $((4 * count + 2)) ] || fail "$(wc -l <out) lines"
! LC_ALL=C grep -qP '[\x00-\x09\x0b-\x1f\x7f]|\xc2[\x80-\x9f]' out || fail "control characters in a table"
says out 'new\\nline'
says out '\\x1B\[31mred'

# ---- CSV and JSON give the names as they are
expect 0 "$ATOLL" sql data "SELECT path, hash FROM images" --csv
python3 - "$count" <<'EOF' || fail 'CSV'
import csv, sys
rows = list(csv.reader(open("out", newline="", encoding="utf-8")))
paths = [row[0] for row in rows[1:]]
assert all(len(row) == 2 for row in rows), "a row is broken"
assert len(set(paths)) == 2 * int(sys.argv[1]), len(paths)
assert "plain/new\nline.png" in paths and 'plain/"double".png' in paths and "plain/caf\\xE9.png" in paths
EOF
expect 0 "$ATOLL" sql data "SELECT path FROM images" --json
python3 - "$count" <<'EOF' || fail 'JSON'
import json, sys
text = json.dumps(json.load(open("out", encoding="utf-8")), ensure_ascii=False)
assert text.count(".png") == 2 * int(sys.argv[1])
assert "plain/\\u001b[31mred\\u001b[2J.png" in text
EOF

# ---- the page: no tag and no attribute that the page of harmless names does not have
for ((i = 0; i < count; i++)); do
    mkdir -p harmless/n$i harmless/plain
    png | tee harmless/plain/$i.png >harmless/n$i/1.png
    echo text >harmless/plain/$i.txt
done
expect 0 "$ATOLL" ingest harmless --out other
expect 0 "$ATOLL" dataset report other --out other.html
expect 0 "$ATOLL" dataset report data --out page.html
python3 - <<'EOF' || fail 'the page'
import collections, html.parser
class Page(html.parser.HTMLParser):
    def __init__(self, name):
        super().__init__()
        self.tags, self.text = collections.Counter(), ""
        self.feed(open(name, encoding="utf-8").read())
    def handle_starttag(self, tag, attributes):
        self.tags[tag, tuple(name for name, _ in attributes)] += 1
        for name, value in attributes:
            assert name not in ("src", "href") or value.startswith(("data:image/png;base64,", "#")), value
    def handle_data(self, data):
        self.text += data
page, other = Page("page.html"), Page("other.html")
assert page.tags == other.tags, (page.tags - other.tags, other.tags - page.tags)
assert "<script>alert(1)<_script>" in page.text and "<img src=x onerror=alert(1)>" in page.text
EOF

# ---- messages
mkdir -p $'bad\e[2J\nsource/a'
echo text >$'bad\e[2J\nsource/a/\e]0;owned\a.png'
expect 3 "$ATOLL" ingest $'bad\e[2J\nsource' --out none --quiet
[ "$(wc -l <err)" = 1 ] || fail "more than a line: $(cat -v err)"
! LC_ALL=C grep -qP '[\x00-\x09\x0b-\x1f\x7f]' err || fail "control characters in a message"
says err '\\x1B\]0;owned\\x07.png: not-an-image'
echo "$((3 * count)) hostile names in tables, CSV, JSON and a page"
