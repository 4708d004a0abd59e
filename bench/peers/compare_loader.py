# SPDX-License-Identifier: Apache-2.0
"""atoll's loader and PyTorch's DataLoader, in turn, pair by pair. bench/peers/loader and
bench/peers/data call it."""
import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
IMAGES_GOAL, FLOOR_GOAL, RATIO_GOAL = 600000, 0.5, 15


def run_json(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"bench/peers/loader: {' '.join(command)}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def make_cache(atoll, folder):
    """50,000 random images, as CIFAR-10's binary files hold them."""
    source = os.path.join(folder, "cifar-10-batches-bin")
    os.mkdir(source)
    dice = random.Random(1)
    for name in [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]:
        with open(os.path.join(source, name), "wb") as file:
            for i in range(10000 if name.startswith("data") else 100):
                file.write(bytes([i % 10]) + dice.randbytes(3072))
    with open(os.path.join(source, "batches.meta.txt"), "w", encoding="utf-8") as file:
        file.writelines(f"class{i}\n" for i in range(10))
    dataset, cache = os.path.join(folder, "data"), os.path.join(folder, "cache")
    for command in (["ingest", source, "--out", dataset],
                    ["cache", "build", dataset, "--size", "32x32", "--out", cache]):
        subprocess.run([atoll, *command, "--quiet"], check=True, stdout=subprocess.DEVNULL)
    return cache


def measure(o, cache):
    ours, theirs = [], []
    threads = str(o.threads)
    sides = [(ours, [o.atoll, "bench", "loader", "--cache", cache, "--threads", threads,
                     "--seconds", str(o.seconds), "--json"]),
             (theirs, [os.path.join(o.venvs, "torch", "bin", "python"),
                       os.path.join(HERE, "load_torch.py"), "256", threads])]
    for pair in range(o.pairs):
        for results, command in sides[::-1 if pair % 2 else 1]:
            results.append(run_json(command))
        print(f"pair {pair + 1}: atoll {ours[-1]['images_per_second']:.0f} images/s, "
              f"{ours[-1]['of_floor']:.2f} of memcpy; DataLoader "
              f"{theirs[-1]['images_per_second']:.0f}", file=sys.stderr, flush=True)
    return ours, theirs


def spread(values, form):
    return f"{statistics.median(values):{form}} ({min(values):{form}}–{max(values):{form}})"


def rows(ours, theirs):
    """Rows of [what, measured, goal, met]."""
    rates = [r["images_per_second"] for r in ours]
    floors = [r["of_floor"] for r in ours]
    ratios = [a / b["images_per_second"] for a, b in zip(rates, theirs)]
    # Whichever is less, in each run.
    goals = [min(IMAGES_GOAL, FLOOR_GOAL * r["floor_images_per_second"]) for r in ours]
    speed_met = statistics.median(a / b for a, b in zip(rates, goals)) >= 1
    met = {True: "met", False: "missed"}
    peer = statistics.median(r["images_per_second"] for r in theirs)
    return [["atoll's loader, images/s",
             f"{spread(rates, ',.0f')}; {spread(floors, '.2f')} of memcpy's bytes",
             f"≥ {IMAGES_GOAL:,}, or {FLOOR_GOAL} of memcpy", met[speed_met]],
            [f"the loader against DataLoader over memory, {peer:,.0f} images/s",
             f"{spread(ratios, '.1f')}×", f"≥ {RATIO_GOAL}×",
             met[statistics.median(ratios) >= RATIO_GOAL]]]


def main():
    parser = argparse.ArgumentParser(prog="bench/peers/loader", description=__doc__)
    parser.add_argument("--venvs", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--atoll", default="build/release/atoll")
    parser.add_argument("--cache", help="of 32x32x3 images; 50,000 random ones are made without it")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--threads", type=int, default=2)
    o = parser.parse_args()
    if not os.access(o.atoll, os.X_OK):
        sys.exit(f"bench/peers/loader: there is no program {o.atoll}: scripts/setup builds it")
    with tempfile.TemporaryDirectory() as folder:
        table = rows(*measure(o, o.cache or make_cache(o.atoll, folder)))
    print("| what | measured | goal |  |\n|---|---|---|---|")
    print("\n".join("| " + " | ".join(row) + " |" for row in table))


if __name__ == "__main__":
    main()
