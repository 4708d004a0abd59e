# SPDX-License-Identifier: Apache-2.0
"""atoll and its peers on this machine, in turn, pair by pair. bench/peers/run calls it; see there.

A ratio is that of the two medians of one pair; what is printed is the median of the pairs' ratios
with the least and the greatest. Pair 1 runs every peer; later pairs the one that was fastest.
"""
import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
# model, batch, goal in fp32, goal in bf16 (times the fastest peer)
TRAINING = [
    ("resnet18", 128, 2.2, 2.2),
    ("resnet20", 256, 2.2, 2.2),
    ("airnet", 256, 2.0, 1.7),
    ("vgg16-bn", 128, 2.0, 1.7),
    ("lenet-wide", 256, 1.4, 1.8),
]
FLOOR_GOAL = 0.85


def log(text):
    print(text, file=sys.stderr, flush=True)


def run_json(command, timeout=1800):
    """The last line that a command prints, as JSON; {"failed": why} where it ends badly."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return {"failed": f"longer than {timeout} s"}
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
        return {"failed": lines[-1]}
    text = done.stdout.strip()
    return json.loads(text[text.index("{"):])


def whole_process(command, repeats):
    """Median wall seconds and greatest resident bytes of a command run some times."""
    seconds, rss = [], 0
    for _ in range(repeats):
        start = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        seconds.append(time.perf_counter() - start)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            sys.exit(f"compare: {' '.join(command)} ended with {child.returncode}")
        rss = max(rss, usage.ru_maxrss * 1024)
    return statistics.median(seconds), rss


class Sides:
    """The commands that are compared."""

    def __init__(self, options):
        self.options = options
        self.torch = os.path.join(options.venvs, "torch", "bin", "python")
        self.keras = os.path.join(options.venvs, "tensorflow", "bin", "python")

    def training(self, model, precision, batch):
        o = self.options
        steps, threads = str(o.steps), str(o.threads)
        peer = [model, precision, str(batch), steps, threads]
        torch = [self.torch, os.path.join(HERE, "train_torch.py")] + peer
        return {
            "atoll": [o.atoll, "bench", "train", "--model", model, "--precision", precision,
                      "--batch", str(batch), "--threads", threads, "--steps", steps, "--json"],
            "torch": torch,
            "torch compiled": torch + ["compile"],
            "keras": [self.keras, os.path.join(HERE, "train_keras.py")] + peer,
        }


def ratio_text(ratios, goal, at_least=True):
    middle = statistics.median(ratios)
    met = middle >= goal if at_least else middle <= goal
    sign = "≥" if at_least else "≤"
    return f"{middle:.2f}× ({min(ratios):.2f}–{max(ratios):.2f})", f"{sign} {goal}", \
        "met" if met else "missed"


def speed(result):
    if result is None:
        return "–"
    return result.get("failed", "")[:60] or f"{result['images_per_second']:.0f}"


def compare_training(sides, model, precision, batch, goal):
    """A row of the table of training."""
    commands = sides.training(model, precision, batch)
    peers = [name for name in commands if name != "atoll"]
    ours, ratios, fractions, first, best = [], [], [], {}, None
    for pair in range(sides.options.pairs):
        names = ["atoll"] + (peers if best is None else [best])
        results = {}
        for name in names[::-1 if pair % 2 else 1]:
            results[name] = run_json(commands[name])
            if name == "atoll" and "failed" in results[name]:
                return [model, precision, batch, results[name]["failed"]] + ["–"] * 9
        if best is None:
            first = results
            able = [name for name in peers if "failed" not in results[name]]
            if not able:
                return [model, precision, batch, "no peer runs: " + speed(results["torch"])] + ["–"] * 9
            best = max(able, key=lambda name: results[name]["images_per_second"])
        if "failed" in results[best]:
            log(f"{model} {precision}: {best} failed in pair {pair + 1}: {results[best]['failed']}")
            continue
        ours.append(results["atoll"])
        ratios.append(ours[-1]["images_per_second"] / results[best]["images_per_second"])
        fractions.append(ours[-1]["floor_fraction"])
        log(f"{model} {precision} pair {pair + 1}: atoll {speed(results['atoll'])}, "
            f"{best} {speed(results[best])}, ratio {ratios[-1]:.2f}, floor {fractions[-1]:.2f}")
    fraction = statistics.median(fractions)
    memory = "–"
    if "failed" not in first["torch"]:
        share = ours[0]["peak_rss_bytes"] / first["torch"]["peak_rss_bytes"]
        memory = f"{ours[0]['peak_rss_bytes'] / 1e6:.0f} MB, {share:.2f} of torch's"
    return [model, precision, batch,
            f"{statistics.median(r['images_per_second'] for r in ours):.0f}",
            *(speed(first.get(name)) for name in peers), *ratio_text(ratios, goal),
            f"{fraction:.2f}", "met" if fraction >= FLOOR_GOAL else "missed", memory]


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def write_jpeg(sides, path):
    code = ("import sys, tensorflow as tf\n"
            "noise = tf.cast(tf.random.uniform((28, 28, 1), 0, 256, tf.int32), tf.uint8)\n"
            "tf.io.write_file(sys.argv[1], tf.io.encode_jpeg(noise))\n")
    subprocess.run([sides.keras, "-c", code, path], check=True, stderr=subprocess.DEVNULL)


def small_things(sides):
    """Plans, one prediction as a whole process, latency: rows of [what, measured, goal, met]."""
    o, rows = sides.options, []
    with tempfile.TemporaryDirectory() as folder:
        plan = [o.atoll, "bench", "train", "--model", "resnet50", "--size", "224x224", "--classes",
                "1000", "--batch", "32", "--steps", "1", "--threads", str(o.threads), "--json"]
        run_json(plan)
        again = run_json(plan)
        if "failed" in again or "plan_seconds" not in again:
            rows.append(["plan of ResNet-50 at 224, batch 32, second time",
                         again.get("failed", "not told"), "≤ 0.5 s", "missed"])
        else:
            rows.append(["plan of ResNet-50 at 224, batch 32, second time",
                         f"{again['plan_seconds']:.2f} s", "≤ 0.5 s",
                         "met" if again["plan_seconds"] <= 0.5 else "missed"])
        model, picture = os.path.join(folder, "lenet.h5"), os.path.join(folder, "one.jpg")
        subprocess.run([o.atoll, "model", "new", "lenet", "--size", "28x28", "--channels", "1",
                        "--classes", "10", "--seed", "1", "--out", model], check=True,
                       stdout=subprocess.DEVNULL)
        write_jpeg(sides, picture)
        seconds, rss = whole_process([o.atoll, "predict", model, picture], 21)
        rows.append(["atoll predict lenet.h5 one.jpg, whole process",
                     f"{seconds * 1e3:.0f} ms, {rss / 1e6:.0f} MB", "≤ 40 ms, 60 MB",
                     "met" if seconds <= 0.04 and rss <= 60e6 else "missed"])
        rows.append(latency(sides, folder))
    return rows


def latency(sides, folder):
    o, ratios, ours, theirs = sides.options, [], [], []
    model, onnx = os.path.join(folder, "resnet50.h5"), os.path.join(folder, "resnet50.onnx")
    subprocess.run([o.atoll, "model", "new", "resnet50", "--size", "224x224", "--channels", "3",
                    "--classes", "1000", "--seed", "1", "--out", model], check=True,
                   stdout=subprocess.DEVNULL)
    subprocess.run([o.atoll, "export", model, "--to", "onnx", "--out", onnx], check=True,
                   stdout=subprocess.DEVNULL)
    atoll = [o.atoll, "bench", "predict", "--model", model, "--batch", "1",
             "--threads", str(o.threads), "--steps", "30", "--json"]
    peer = [sides.keras, os.path.join(HERE, "predict_onnx.py"), onnx, "30", str(o.threads)]
    for pair in range(o.pairs):
        results = [run_json(c) for c in ([atoll, peer] if pair % 2 == 0 else [peer, atoll])]
        mine, other = results if pair % 2 == 0 else results[::-1]
        if "failed" in mine or "failed" in other:
            return ["ResNet-50 at 224, one image", mine.get("failed") or other["failed"],
                    "≤ onnxruntime", "missed"]
        ours.append(mine["seconds"])
        theirs.append(other["seconds"])
        ratios.append(ours[-1] / theirs[-1])
    text, _, met = ratio_text(ratios, 1.0, at_least=False)
    return ["ResNet-50 at 224, one image, fp32",
            f"{statistics.median(ours) * 1e3:.1f} ms; onnxruntime "
            f"{statistics.median(theirs) * 1e3:.1f} ms: {text}", "≤ onnxruntime", met]


def versions(sides):
    doctor = subprocess.run([sides.options.atoll, "doctor"], capture_output=True, text=True)
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo")
                if line.startswith("model name")), platform.processor())
    flags = next((line for line in open("/proc/cpuinfo") if line.startswith("flags")), "").split()
    has = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    lines = [f"{datetime.date.today()}, {cpu} ({', '.join(has)}), {sides.options.threads} threads,",
             f"{sides.options.pairs} pairs of {sides.options.steps} steps."]
    for python, names in ((sides.torch, ("torch",)), (sides.keras, ("tensorflow", "keras", "onnxruntime"))):
        code = "import importlib.metadata as m, sys\n" \
               "print(', '.join(n + ' ' + m.version(n) for n in sys.argv[1:]))"
        known = [n if n != "tensorflow" else "tensorflow-cpu" for n in names]
        lines.append(subprocess.run([python, "-c", code, *known], capture_output=True,
                                    text=True).stdout.strip() + ";")
    lines += ["one" + line.split()[0][3:].upper() + " " + line.split()[1] + " in atoll."
              for line in doctor.stdout.splitlines() if line.startswith("onednn")]
    return " ".join(lines)


def parse_options():
    parser = argparse.ArgumentParser(prog="bench/peers/run", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venvs", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--atoll", default="build/release/atoll")
    parser.add_argument("--models", default=",".join(row[0] for row in TRAINING),
                        help="which, with commas; \"none\" for the small things alone")
    parser.add_argument("--precision", default="fp32,bf16")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-small", action="store_true", help="leave out plans and latency")
    parser.add_argument("--out", help="also write the tables into this Markdown file")
    return parser.parse_args()


HEAD = ["model", "precision", "batch", "atoll, images/s", "torch", "torch compiled", "keras",
        "against the best peer", "goal", "", "of its floor", f"≥ {FLOOR_GOAL}", "memory"]


def report(about, rows, small):
    parts = [about]
    if rows:
        parts.append(table(HEAD, rows))
    if small:
        parts.append(table(["what", "measured", "goal", ""], small))
    return "\n\n".join(parts) + "\n"


def save(options, text):
    """After every row: a run takes long, and what it has found so far is worth keeping."""
    if options.out:
        with open(options.out, "w", encoding="utf-8") as file:
            file.write(text)


def main():
    options = parse_options()
    if not os.access(options.atoll, os.X_OK):
        sys.exit(f"bench/peers/run: there is no program {options.atoll}: scripts/setup builds it")
    sides = Sides(options)
    about, wanted, rows = versions(sides), options.models.split(","), []
    for model, batch, fp32, bf16 in TRAINING:
        for precision, goal in (("fp32", fp32), ("bf16", bf16)):
            if model in wanted and precision in options.precision.split(","):
                rows.append(compare_training(sides, model, precision, batch, goal))
                save(options, report(about, rows, []))
    text = report(about, rows, [] if options.no_small else small_things(sides))
    save(options, text)
    print(text, end="")


main()
