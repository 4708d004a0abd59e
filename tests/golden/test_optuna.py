#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=300
"""Optuna opens STUDY/study.db as it is, agrees with `atoll study` on every trial, and can go on with it."""
import json
import math
import os
import subprocess
import tempfile

import optuna

optuna.logging.set_verbosity(optuna.logging.ERROR)
ATOLL = os.environ["ATOLL"]
SWEEP = """
data: {data}
model: lenet
train: {{batch: 16}}
search:
  trials: 6
  wave: 3
  workers: local:2
  metric: val_loss
  direction: minimize
  seed: 1
  train: {{epochs: 2}}
  space:
    lr: {{loguniform: [0.001, 0.3]}}
    momentum: {{quniform: [0.5, 0.9, 0.1]}}
    batch: {{int: [8, 16]}}
    optimizer:
      choice:
        - sgd: {{nesterov: {{choice: [true, false]}}}}
        - adam: {{beta2: {{uniform: [0.9, 0.999]}}}}
"""


def atoll(*words):
    done = subprocess.run([ATOLL, *words], capture_output=True, text=True)
    assert done.returncode == 0, f"atoll {' '.join(words)}: {done.stderr}"
    return done.stdout


def make_pictures(folder):
    """Two classes that a network tells apart: bright above or bright below."""
    from PIL import Image
    import numpy as np
    rng = np.random.default_rng(0)
    for split, n in (("train", 40), ("test", 8)):
        for label, name in enumerate(("above", "below")):
            os.makedirs(f"{folder}/{split}/{name}")
            for i in range(n):
                pixels = rng.integers(0, 100, (32, 32), dtype=np.uint8)
                pixels[16 * label:16 * label + 16] += 120
                Image.fromarray(pixels, "L").save(f"{folder}/{split}/{name}/{i}.png")


def compare(study, mine):
    """Numbers, states, values, parameters with their types, attributes."""
    assert len(study.trials) == len(mine["trials"]) == 6
    for theirs, ours in zip(study.trials, mine["trials"]):
        assert theirs.number == ours["number"]
        assert theirs.state.name == ours["state"]
        assert theirs.value == ours["value"]
        assert theirs.params == ours["params"], (theirs.params, ours["params"])
        for name, value in theirs.params.items():
            assert type(value) is type(ours["params"][name]) or isinstance(value, float)
            assert theirs.distributions[name]._contains(theirs.distributions[name].to_internal_repr(value))
        assert theirs.user_attrs["wave"] == ours["wave"] == 1 + theirs.number // 3
        assert theirs.user_attrs["worker"] == ours["worker"]
        assert theirs.user_attrs["start_delay_ms"] == ours["start_delay_ms"] >= 0
        assert theirs.datetime_start < theirs.datetime_complete
        assert sorted(theirs.intermediate_values) == [1, 2]
        assert math.isclose(theirs.intermediate_values[2], theirs.value)
        assert ("nesterov" in theirs.params) == (theirs.params["optimizer"] == "sgd")
    age = optuna.trial._frozen.datetime.datetime.now() - study.trials[-1].datetime_complete
    if int(optuna.__version__.split(".")[0]) >= 5:  # which stores UTC, as we do, and shows local time
        assert abs(age.total_seconds()) < 600


def go_on(study):
    """Optuna's own sampler takes the history as its own."""
    def objective(trial):
        lr = trial.suggest_float("lr", 0.001, 0.3, log=True)
        trial.suggest_float("momentum", 0.5, 0.9, step=0.1)
        trial.suggest_int("batch", 8, 16)
        trial.suggest_categorical("optimizer", ["sgd", "adam"])
        return abs(math.log(lr))
    study.optimize(objective, n_trials=2)
    assert len(study.trials) == 8 and study.trials[-1].state.name == "COMPLETE"


def main():
    with tempfile.TemporaryDirectory() as work:
        make_pictures(f"{work}/pictures")
        atoll("ingest", f"{work}/pictures", "--out", f"{work}/data", "--val-fraction", "0.25")
        with open(f"{work}/sweep.yaml", "w", encoding="utf-8") as f:
            f.write(SWEEP.format(data=f"{work}/data"))
        os.environ["ATOLL_CACHE_DIR"] = f"{work}/caches"
        atoll("tune", f"{work}/sweep.yaml", "--out", f"{work}/my-study")
        mine = json.loads(atoll("study", "trials", f"{work}/my-study", "--json"))
        best = json.loads(atoll("study", "best", f"{work}/my-study", "--json"))
        storage = f"sqlite:///{work}/my-study/study.db"
        study = optuna.load_study(study_name="my-study", storage=storage)
        assert study.direction.name == "MINIMIZE"
        assert study.metric_names == ["val_loss"]
        assert (study.best_trial.number, study.best_value, study.best_params) == \
            (best["number"], best["value"], best["params"])
        compare(study, mine)
        go_on(study)
    print(f"optuna {optuna.__version__}: 6 trials, the best one and its parameters agree; it goes on with the study")


main()
