"""Stock Ray Tune on a sweep's only arm: `OptunaSearch`, `ASHAScheduler`, `MLflowLoggerCallback`, and our `train()`.

That is what somebody would write who knows Ray's documentation: its classes with their defaults, the same space,
images, teacher and slots. Trials keep no checkpoints, which favours it. It runs in a process of its own, which writes
each reported epoch, and each trial that has ended, as a line of an `EvidenceFile`.
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.evidence_file import EvidenceFile, read_evidence
from supersnn.config_model import to_yaml
from supersnn.data import training_data
from supersnn.teacher_sources import teacher_source_for
from supersnn.training import train
from tune.description.arms import Arm, resolve
from tune.description.space import SearchParameter
from tune.description.sweep import SweepConfig, load

GRACE = 60
"""Seconds that an interrupted run may take to end."""


def run_stock(
    sweep: SweepConfig, store: Path, seconds: float | None = None, *, asha: bool = True, tracking: bool = True
) -> tuple[float, list[dict[str, Any]]]:
    """Run stock Ray Tune to the sweep's number of trials, or end it after some seconds.

    Args:
        sweep: of one arm; its teacher must be in the store.
        store: also for the run's own files.
        seconds: after which it is ended.
        asha: stop trials early; else each is trained to its end.
        tracking: log to MLflow.

    Returns:
        When the command was started, in Unix seconds, and the events: ``epoch``, and ``end`` with the value of a trial
        that has had all of its epochs.
    """
    folder = store / f"stock-{sweep.name}-{time.time_ns()}"
    folder.mkdir(parents=True)
    (folder / "sweep.yaml").write_text(to_yaml(sweep), encoding="utf-8")
    given = {"folder": str(folder), "store": str(store), "asha": asha, "tracking": tracking}
    started = time.time()
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.stock", json.dumps(given)],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            process.wait(seconds)
            if process.returncode:
                raise RuntimeError(f"stock Ray Tune has failed: {(folder / 'log.txt').read_text()[-2000:]}")
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return started, list(read_evidence(folder / "events.jsonl"))


def domain(parameter: SearchParameter) -> Any:
    """Return a search parameter as Ray Tune's."""
    import ray.tune

    if parameter.uniform is not None:
        return ray.tune.uniform(*parameter.uniform)
    if parameter.log is not None:
        return ray.tune.loguniform(*parameter.log)
    if parameter.integer is not None:
        return ray.tune.randint(parameter.integer[0], parameter.integer[1] + 1)
    return ray.tune.choice(parameter.categorical)


def trainable(values: dict[str, Any], sweep: SweepConfig, arm: Arm, store: Path) -> None:
    """Train with a trial's values; each epoch is reported."""
    import ray.tune

    data = training_data(sweep.dataset)
    config = arm.config(values)
    for report in train(config, data, teacher_source_for(config, data, store)):
        ray.tune.report({"accuracy": report.metrics.get("val/accuracy", 0.0), "ended": report.ended or ""})


class _Evidence:
    """An evidence file that Ray may pickle, as it does with all callbacks: the copy is empty."""

    def __init__(self, path: Path) -> None:
        self._file: EvidenceFile | None = EvidenceFile(path)

    def __getstate__(self) -> dict[str, Any]:
        return {"_file": None}

    def append(self, event: str, **fields: Any) -> None:
        """Write one line with the time."""
        if self._file is not None:
            self._file.append(event, time=time.time(), **fields)


def main(given: dict[str, Any]) -> None:
    """Run the search in this process."""
    import ray
    import ray.tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    folder, store = Path(given["folder"]), Path(given["store"])
    sweep = load(folder / "sweep.yaml")
    (arm,) = resolve(sweep).values()
    evidence = _Evidence(folder / "events.jsonl")

    class Recorder(ray.tune.Callback):
        """Writes each result as it comes."""

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
        ) -> None:
            """Take an epoch."""
            del iteration, trials
            evidence.append("epoch", trial=trial.trial_id, epoch=result["training_iteration"])
            if result["ended"] == "finished":
                evidence.append("end", trial=trial.trial_id, end="finished", value=result["accuracy"])

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
            """Take a start."""
            del iteration, trials
            evidence.append("start", trial=trial.trial_id)

    callbacks: list[Any] = [Recorder()]
    if given["tracking"]:
        callbacks.append(MLflowLoggerCallback(tracking_uri=f"sqlite:///{folder}/mlflow.db", experiment_name=sweep.name))
    ray.init(address="local", include_dashboard=False, logging_level="ERROR")
    found = ray.tune.Tuner(
        ray.tune.with_resources(
            ray.tune.with_parameters(trainable, sweep=sweep, arm=arm, store=store), {"cpu": sweep.resources.cpus}
        ),
        param_space={key: domain(parameter) for key, parameter in arm.parameters.items()},
        tune_config=ray.tune.TuneConfig(
            metric="accuracy",
            mode="max",
            search_alg=OptunaSearch(seed=sweep.seed),
            scheduler=ASHAScheduler(max_t=sweep.train.epochs) if given["asha"] else None,
            num_samples=sweep.search.trials,
            max_concurrent_trials=sweep.resources.trials_at_once,
        ),
        run_config=ray.tune.RunConfig(name="run", storage_path=str(folder), callbacks=callbacks, verbose=0),
    ).fit()
    ray.shutdown()
    if found.errors:
        raise found.errors[0]


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
