# SPDX-License-Identifier: Apache-2.0
"""Ingest, loader and catalog beside their limits and PyTorch's DataLoader, in turn, pair by pair.
bench/peers/data calls it; see there.

A ratio is that of the two sides of one pair; what is printed is the median of the pairs' ratios with
the least and the greatest. Memory is that of all processes of the command, shared pages counted once.
"""
import argparse
import datetime
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time

import compare_loader
import data_sources

HERE = os.path.dirname(os.path.abspath(__file__))
PHOTOGRAPH_BYTES = 2_400_000  # of one of them in a data set with its cache, and some to spare
ROWS = ["ingest", "photographs", "loader", "waiting", "million"]
LIMIT = os.path.join(HERE, "..", "..", "..", "shared", "peers", "jpeg_limit.c")


def log(text):
    print(text, file=sys.stderr, flush=True)


def run(command, **how):
    done = subprocess.run(command, capture_output=True, text=True, **how)
    if done.returncode:
        sys.exit(f"bench/peers/data: {' '.join(command)}: {done.stderr.strip()[-600:]}")
    return done.stdout


def run_json(command):
    text = run(command)
    return json.loads(text[text.index("{"):])


# ---- memory of a command and its children ----

def family(pid):
    """The process and all below it."""
    pids = [pid]
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            for child in file.read().split():
                pids += family(int(child))
    except OSError:
        pass
    return pids


def resident(pid):
    """Resident bytes of a process, a page that n processes share counted as the n-th part."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return 0


def run_watched(command):
    """What the command printed as JSON, and the greatest sum of its processes' resident bytes."""
    with tempfile.TemporaryFile("w+") as out:
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)
        peak = 0
        while child.poll() is None:
            peak = max(peak, sum(resident(pid) for pid in family(child.pid)))
            time.sleep(0.05)
        if child.returncode:
            sys.exit(f"bench/peers/data: {' '.join(command)} ended with {child.returncode}")
        out.seek(0)
        return json.load(out), peak


# ---- rows: [what, measured, goal, met] ----

def met(good):
    return "met" if good else "missed"


def spread(values, form):
    return f"{statistics.median(values):{form}} ({min(values):{form}}–{max(values):{form}})"


def at_least(what, values, goal, form=".2f", unit="", note=""):
    return [what, spread(values, form) + unit + note, f"≥ {goal}{unit}",
            met(statistics.median(values) >= goal)]


def beside(what, values, note):
    return [what, spread(values, ".2f") + note, "", "to compare"]


def at_most(what, value, goal, text, goal_text):
    return [what, text, f"≤ {goal_text}", met(value <= goal)]


def turns(o, *sides):
    """Calls the sides in turn, the other way round in every other pair; a list of results each."""
    results = [[] for _ in sides]
    for pair in range(o.pairs):
        order = list(enumerate(sides))
        for i, side in order[::-1 if pair % 2 else 1]:
            results[i].append(side())
        log(f"  pair {pair + 1}: " + ", ".join(f"{r[-1]['images_per_second']:.0f} images/s"
                                              for r in results))
    return results


class Limit:
    """libjpeg-turbo alone over the files, a process a core: ../shared/peers/jpeg_limit.c."""

    def __init__(self, o, folder, work):
        self.threads = o.threads
        self.program = os.path.join(work, "jpeg_limit")
        run(["cc", "-O2", "-o", self.program, LIMIT, "-ljpeg"])
        self.paths = sorted(os.path.join(at, name) for at, _, names in os.walk(folder)
                            for name in names if name.endswith(".jpg"))

    def __call__(self):
        lists = ["\n".join(self.paths[i::self.threads]) + "\n" for i in range(self.threads)]
        begin = time.perf_counter()
        children = [subprocess.Popen(self.program, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
                    for _ in lists]
        for child, text in zip(children, lists):
            child.stdin.write(text.encode())
            child.stdin.close()
        if any([child.wait() for child in children]):
            sys.exit("bench/peers/data: jpeg_limit failed")
        return {"images_per_second": len(self.paths) / (time.perf_counter() - begin)}


def ingest_rows(o, work):
    log("ingest of small JPEGs")
    tar, folder = o.cifar, os.path.join(work, "files")
    if not os.path.exists(tar):
        tar = os.path.join(work, "small.tar")
        data_sources.small_tar(tar, 6000 if o.quick else 60000, 5000)
    with tarfile.open(tar) as archive:
        archive.extractall(folder)
    threads = str(o.threads)
    ours = [o.atoll, "bench", "ingest", tar, "--threads", threads, "--json"]
    peer = [o.python, os.path.join(HERE, "load_files_torch.py"), folder, "256", threads,
            "6000" if o.quick else "60000"]
    bare = Limit(o, folder, work) if os.path.exists(LIMIT) else None
    results = turns(o, lambda: run_json(ours), lambda: run_json(peer), *([bare] if bare else []))
    shutil.rmtree(folder)
    rates = [r["images_per_second"] for r in results[0]]
    what = f"ingest of {results[0][0]['images']:,} JPEGs of 32x32 from {os.path.basename(tar)}"
    floors = [r["floor_images_per_second"] for r in results[0]]
    rows = [beside(f"{what}, images/s: {spread(rates, ',.0f')}; against libjpeg alone in the same "
                   f"program, from memory", [a / b for a, b in zip(rates, floors)],
                   f" of {statistics.median(floors):,.0f}")]
    if bare:
        limits = [r["images_per_second"] for r in results[2]]
        rows.append(at_least("the same, against jpeg_limit.c over the files, a process a core",
                             [a / b for a, b in zip(rates, limits)], 0.6,
                             note=f" of {statistics.median(limits):,.0f}"))
    peers = [r["images_per_second"] for r in results[1]]
    rows.append(at_least("the same, against a DataLoader over the files",
                         [a / b for a, b in zip(rates, peers)], 8, ".1f", "×",
                         f" of {statistics.median(peers):,.0f}"))
    return rows


def expect_room(folder, bytes_, what):
    free = shutil.disk_usage(folder).free
    text = f"{what}: {bytes_ / 1e9:.1f} GB in {folder}, where {free / 1e9:.1f} GB are free"
    if free < bytes_:
        sys.exit(f"bench/peers/data: no room for {text}")
    log(f"  {text}")


def photograph_rows(o, work):
    count, distinct = (60, 6) if o.quick else (1000, 40)
    log(f"{count} photographs of 12 Mpixel")
    folder = os.path.join(o.sources, f"photographs-{count}")
    os.makedirs(o.sources, exist_ok=True)
    if not os.path.isdir(folder):
        expect_room(o.sources, count * PHOTOGRAPH_BYTES, "the photographs, kept for the next run")
    data_sources.photographs(folder, count, distinct, o.threads, log)
    expect_room(work, count * PHOTOGRAPH_BYTES, "a data set of them, while it is measured")
    command = [o.atoll, "bench", "ingest", folder, "--size", "224x224", "--threads", str(o.threads),
               "--json"]
    results = turns(o, lambda: run_json(command))[0]
    rates = [r["images_per_second"] for r in results]
    floors = [r["floor_images_per_second"] for r in results]
    return [at_least(f"ingest of {count:,} photographs of 12 Mpixel with cache at 224x224, images/s: "
                     f"{spread(rates, '.1f')}; against libjpeg alone in full",
                     [a / b for a, b in zip(rates, floors)], 0.8,
                     note=f" of {statistics.median(floors):.1f}")]


def loader_rows(o, work):
    log("the loader")
    place = os.path.join(work, "loader")
    os.mkdir(place)
    cache = compare_loader.make_cache(o.atoll, place)
    rows = compare_loader.rows(*compare_loader.measure(o, cache))
    shutil.rmtree(place)
    return rows


def waiting_rows(o, work):
    log("what a training waits for data")
    data, out = os.path.join(work, "waiting"), os.path.join(work, "run")
    tar = o.cifar
    if not os.path.exists(tar):
        tar = os.path.join(work, "train.tar")
        data_sources.small_tar(tar, 20000)
    run([o.atoll, "ingest", tar, "--out", data, "--allow-missing-classes", "--quiet"])
    images, lines = 2560 if o.quick else 12800, []
    for precision in ("bf16", "fp32"):
        command = [o.atoll, "train", "--data", data, "--model", "airnet", "--out", out, "--trial",
                   "--epochs", "3", "--batch", "256", "--threads", str(o.threads), "--train_limit",
                   str(images), "--precision", precision, "--augment.flip", "true",
                   "--augment.shift", "4", "--quiet"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            with open(os.path.join(out, "metrics.jsonl"), encoding="utf-8") as file:
                lines = [json.loads(line) for line in file]
            break
        if precision == "fp32" or done.returncode != 3:
            sys.exit(f"bench/peers/data: {' '.join(command)}: {done.stderr.strip()[-600:]}")
    shutil.rmtree(data)
    # the first epoch begins with an empty ring and cold kernels
    shares = [e["waited_data"] * e["images_per_second"] / images
              for e in lines if e["epoch"] > 1 and "waited_data" in e]
    note = "" if precision == "bf16" else "; in fp32, as this CPU has no bf16"
    share = statistics.median(shares)
    return [at_most(f"share of airnet's training step that waits for data{note}", share, 0.01,
                    f"{share:.3%}", "1 %")]


def million_rows(o, work):
    count, epochs = (100000, 50) if o.quick else (1000000, 50)
    log(f"{count:,} images of 32x32")
    tar, data, cache = (os.path.join(work, name) for name in ("many.tar", "many", "cache"))
    data_sources.small_tar(tar, count)
    threads = ["--threads", str(o.threads)]
    made, peak = run_watched([o.atoll, "ingest", tar, "--out", data, "--jobs", str(o.threads),
                              "--json", "--quiet"])
    os.remove(tar)
    peak = max(peak, made.get("peak_rss_bytes", 0))
    log(f"  ingest: {made['images_per_second']:.0f} images/s, {peak / 1e6:.0f} MB")
    run([o.atoll, "cache", "build", data, "--size", "32x32", "--out", cache, "--quiet"])
    loader = run_json([o.atoll, "bench", "loader", "--cache", cache, "--epochs", str(epochs),
                       "--seconds", "1", *threads, "--json"])
    shutil.rmtree(cache)
    catalog = run_json([o.atoll, "bench", "catalog", "--data", data, "--json"])
    shutil.rmtree(data)
    first, last = (loader[key] / 1e6 for key in ("anonymous_bytes_first_epoch", "anonymous_bytes"))
    opening = catalog["seconds"] * 1e3
    label, content = catalog["label_rows_seconds"] * 1e3, catalog["hash_seconds"] * 1e3
    name = f"{count:,} images"
    return [
        at_most(f"resident memory of an ingest of {name} of 32x32", peak, 300e6,
                f"{peak / 1e6:.0f} MB", "300 MB"),
        at_most(f"the loader's with {name}, besides mapped files", last, 100, f"{last:.1f} MB",
                "100 MB"),
        at_most(f"the same after {loader['epochs']} epochs, against the first", last - first, 1,
                f"{last - first:+.1f} MB", "1 MB more"),
        at_most(f"opening a data set of {name}", opening, 100, f"{opening:.1f} ms", "100 ms"),
        at_most("mean query of it by label (1,000 rows), by hash", max(label, content), 5,
                f"{label:.2f} ms, {content:.3f} ms", "5 ms"),
    ]


# ---- the table ----

def about(o):
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo", encoding="utf-8")
                if line.startswith("model name")), "a CPU")
    size = ", quick sizes" if o.quick else ""
    return (f"{datetime.date.today()}, {cpu}, {o.threads} threads, {o.pairs} pairs{size}; load before: "
            f"{os.getloadavg()[0]:.1f}.")


def parse_options():
    parser = argparse.ArgumentParser(prog="bench/peers/data", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venvs", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--atoll", default="build/release/atoll")
    parser.add_argument("--cifar", default="../shared/datasets/cifar10-jpeg.tar.gz",
                        help="a tar of small JPEGs; made where it is missing")
    parser.add_argument("--sources", default="build/peers/sources",
                        help="where photographs (2.4 GB; quick: 0.2) are made once and kept")
    parser.add_argument("--rows", default=",".join(ROWS), help="which, with commas")
    parser.add_argument("--pairs", type=int, help="5; quick: 1")
    parser.add_argument("--seconds", type=float, help="of the loader in a pair; 3, quick: 1")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="smaller sizes: minutes, not an hour")
    parser.add_argument("--out", help="also write the table into this Markdown file")
    o = parser.parse_args()
    o.pairs, o.seconds = o.pairs or (1 if o.quick else 5), o.seconds or (1 if o.quick else 3)
    o.python = os.path.join(o.venvs, "torch", "bin", "python")
    unknown = set(o.rows.split(",")) - set(ROWS)
    if unknown:
        sys.exit(f"bench/peers/data: no rows {', '.join(sorted(unknown))}: {', '.join(ROWS)}")
    if not os.access(o.atoll, os.X_OK):
        sys.exit(f"bench/peers/data: there is no program {o.atoll}: scripts/setup builds it")
    return o


def main():
    o = parse_options()
    makers = {"ingest": ingest_rows, "photographs": photograph_rows, "loader": loader_rows,
              "waiting": waiting_rows, "million": million_rows}
    lines = [about(o), "", "| what | measured | goal |  |", "|---|---|---|---|"]
    for name in o.rows.split(","):
        with tempfile.TemporaryDirectory() as work:
            lines += ["| " + " | ".join(row) + " |" for row in makers[name](o, work)]
        if o.out:  # after every row: a run takes long
            with open(o.out, "w", encoding="utf-8") as file:
                file.write("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
