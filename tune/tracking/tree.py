"""The run tree as a fold of the journal: which runs there are, and what each has yet to be told. Knows no MLflow.

The fold is a pure function of the events: read again from the first line it says the same values with the same
times and steps, so that whatever is said twice changes nothing.
"""

import json
import statistics
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from supersnn.config_model import digest
from tune.tracking.changes import Change, Dataset, Export, Run, Status, joined, params
from tune.tracking.standings import Arm, Trial, Verification

Event = Mapping[str, Any]
CHANGING = ("search.", "verify.", "resources.")
"""The sweep's sections that it may be continued with other values of: a param is said once and for all."""
ON_CLOSE: Mapping[str, Status] = {"done": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


class Tree:
    """Reads events and gathers a `Change` a run.

    `folder` is the sweep's (an event's paths are relative to it); `family` names an architecture's family.
    """

    def __init__(self, sweep: str, config: Mapping[str, Any], folder: Path, family: Callable[[str], str]) -> None:
        self.sweep = sweep
        self.config = config
        self.folder = folder
        self._family = family
        self._root: Run | None = None
        self._origin: dict[str, str] = {}
        self._arms: dict[str, Arm] = {}
        self._teachers: dict[str, Event] = {}
        self._changes: dict[str, Change] = {}
        self._readers: dict[str, Callable[[Event], None]] = {
            "sweep": self._read_sweep,
            "data": self._learn_split,
            "teacher": self._read_teacher,
            "start": self._read_start,
            "epoch": self._read_epoch,
            "end": self._read_end,
            "verified": self._read_verified,
            "winner": self._read_winner,
            "export": self._read_export,
            "close": self._read_close,
        }

    def read(self, event: Event) -> None:
        """Take one event in; kinds that do not show in MLflow are passed over.

        Raises:
            KeyError: the event lacks a field, or speaks of what no earlier event has introduced.
        """
        if reader := self._readers.get(event["event"]):
            reader(event)

    def take(self) -> list[Change]:
        """Return what is to be told, in the order in which it came up, and forget it."""
        changes, self._changes = list(self._changes.values()), {}
        return changes

    def _change(self, run: Run) -> Change:
        return self._changes.setdefault(run.key, Change(run))

    def _read_sweep(self, event: Event) -> None:
        if self._root is None:
            self._root = self._new_root(event)
        else:
            for run in (self._root, *(arm.run for arm in self._arms.values())):
                self._change(run).set_status("RUNNING")
        change = self._change(self._root)
        change.tags["supersnn.code"] = self._origin["supersnn.code"] = str(event["code"])
        change.files["config.yaml"] = yaml.safe_dump(dict(self.config), sort_keys=False)
        change.files["environment.json"] = json.dumps(event.get("versions", {}), indent=1, sort_keys=True)

    def _new_root(self, event: Event) -> Run:
        journal = digest(dict(event))
        self._origin = {"supersnn.journal": journal}
        tags = {**self._origin, "supersnn.level": "sweep", "supersnn.seed": str(self.config.get("seed", 0))}
        run = Run(f"{self.sweep}@{journal}", self.sweep, event["time"], tags)
        fixed = params(self.config).items()
        self._change(run).params = {key: text for key, text in fixed if not key.startswith(CHANGING)}
        return run

    def _learn_split(self, event: Event) -> None:
        """Take the cut's fingerprint from the first event that has it."""
        if (split := event.get("split")) and "supersnn.split" not in self._origin:
            self._origin["supersnn.split"] = split
            change = self._change(self._sweep_run)
            change.tags["supersnn.split"] = split
            change.dataset = self._dataset(params(self.config))

    def _read_teacher(self, event: Event) -> None:
        self._learn_split(event)
        self._teachers[event["name"]] = event
        facts = {f"teacher/{event['name']}/{k}": event.get(k) for k in ("val_accuracy", "parameters", "seconds")}
        self._change(self._sweep_run).add_points(facts, event["time"], 0)

    def _read_start(self, event: Event) -> None:
        arm, number, config = self._arm(event), event["trial"], event["config"]
        if number in arm.trials:
            arm.trials[number].end = None
            self._change(arm.trials[number].run).set_status("RUNNING")
        else:
            tags = self._tags("trial", event["arm"], config)
            tags["supersnn.sampled"] = " ".join(sorted(event.get("params", {})))
            run = Run(
                f"{arm.run.key}/{number}", f"{event['arm']} #{number} {_pair(config)}", event["time"], tags, arm.run
            )
            arm.trials[number] = Trial(run)
            self._describe(run, config)
            self._label(arm, config)

    def _read_epoch(self, event: Event) -> None:
        trial = self._arm(event).trials[event["trial"]]
        if event["epoch"] <= trial.epoch:
            return
        trial.epoch = event["epoch"]
        trial.value = event["metrics"].get("val/accuracy", trial.value)
        shown_first = {"val/accuracy": event["metrics"].get("val/accuracy")}
        self._change(trial.run).add_points(shown_first | event["metrics"], event["time"], trial.epoch)

    def _read_end(self, event: Event) -> None:
        arm, end, time = self._arm(event), str(event["end"]), event["time"]
        trial = arm.trials[event["trial"]]
        if trial.end == end:
            return
        trial.end = end
        change = self._change(trial.run)
        change.tags["supersnn.end"] = end
        change.set_status("FAILED" if end.startswith("failed") else "FINISHED", time)
        traceback = self.folder / "trials" / event["arm"] / str(event["trial"]) / "traceback.txt"
        if change.status == "FAILED" and traceback.is_file():
            change.tags["supersnn.traceback"] = str(traceback)
        self._count(arm, time)

    def _read_verified(self, event: Event) -> None:
        arm, config, seed, time = self._arm(event), event["config"], event["seed"], event["time"]
        trial = arm.trials[event["trial"]]
        if seed in trial.verified:
            return
        tags = self._tags("verification", event["arm"], config) | {"supersnn.end": "finished"}
        if event.get("opened") is not None:
            tags["supersnn.test_opened"] = datetime.fromtimestamp(event["opened"], UTC).isoformat(timespec="seconds")
        name = f"{event['arm']} verify seed {seed}"
        run = Run(f"{trial.run.key}/verify/{seed}", name, time - event["seconds"], tags, arm.run)
        self._describe(run, config)
        change = self._change(run)
        layers = {f"spikes/rate/{layer}": rate for layer, rate in (event.get("rates") or {}).items()}
        change.add_points(event["metrics"] | layers, time, config.get("train.epochs", 0))
        change.set_status("FINISHED", time)
        trial.verified[seed] = Verification(run, event["metrics"])
        arm.tested = trial
        self._average(arm, time)

    def _read_winner(self, event: Event) -> None:
        arm = self._arm(event)
        if arm.winner:
            self._change(arm.winner.run).tags["supersnn.winner"] = "no"
        arm.winner = arm.trials[event["trial"]]
        self._change(arm.winner.run).tags["supersnn.winner"] = "yes"
        self._change(arm.run).tags["supersnn.winner"] = str(event["trial"])

    def _read_export(self, event: Event) -> None:
        arm, folder = self._arm(event), self.folder / event["folder"]
        self._change(arm.run).tags["supersnn.export"] = str(folder)
        score = arm.summary().get("test/mean")
        if arm.tested and event["seed"] in arm.tested.verified and score is not None:
            run = arm.tested.verified[event["seed"]].run
            self._change(run).exports.append(Export(folder, score))

    def _read_close(self, event: Event) -> None:
        status, time = ON_CLOSE[event["end"]], event["time"]
        for arm in self._arms.values():
            for trial in arm.trials.values():
                if trial.end is None:
                    trial.end = "interrupted"
                    self._change(trial.run).set_status("KILLED", time)
            self._change(arm.run).set_status(status, time)
        self._change(self._sweep_run).set_status(status, time)

    @property
    def _sweep_run(self) -> Run:
        if self._root is None:
            raise KeyError("sweep")
        return self._root

    def _arm(self, event: Event) -> Arm:
        name = event["arm"]
        if name not in self._arms:
            tags = {**self._origin, "supersnn.level": "arm", "supersnn.arm": name}
            run = Run(f"{self._sweep_run.key}/{name}", name, event["time"], tags, self._sweep_run)
            self._arms[name] = Arm(run)
            self._change(run).params = params((self.config.get("arms") or {}).get(name) or {})
        return self._arms[name]

    def _describe(self, run: Run, config: Event) -> None:
        change = self._change(run)
        change.params = params(config)
        change.dataset = self._dataset(config)

    def _dataset(self, config: Mapping[str, Any]) -> Dataset | None:
        name, split = config.get("dataset.name"), self._origin.get("supersnn.split")
        return Dataset(name, split) if name and split else None

    def _tags(self, level: str, arm: str, config: Event) -> dict[str, str]:
        own = {"supersnn.level": level, "supersnn.arm": arm, "supersnn.seed": str(config.get("seed", 0))}
        tags = {**self._origin, **own, **self._labels(config)}
        if fact := self._teachers.get(config.get("teacher.name") or ""):
            tags["supersnn.teacher_digest"] = str(fact["digest"])
            tags["supersnn.teacher_accuracy"] = str(fact["val_accuracy"])
            tags["supersnn.teacher_parameters"] = str(fact["parameters"])
        return tags

    def _labels(self, config: Event) -> dict[str, str]:
        """Name student, teacher, their families and the kind of their pairing."""
        student, teacher = config["student.architecture"], config.get("teacher.name")
        labels = {"supersnn.student": student, "supersnn.student_family": self._family(student)}
        if teacher is None:
            return labels | {"supersnn.pairing": "none"}
        known = self._teachers.get(teacher, {}).get("family")
        labels |= {"supersnn.teacher": teacher, "supersnn.teacher_family": known or self._family(teacher)}
        same = labels["supersnn.teacher_family"] == labels["supersnn.student_family"]
        return labels | {"supersnn.pairing": "homogeneous" if same else "heterogeneous"}

    def _label(self, arm: Arm, config: Event) -> None:
        for tag, word in self._labels(config).items():
            words = arm.labels.setdefault(tag, set())
            if word not in words:
                words.add(word)
                self._change(arm.run).tags[tag] = joined(words)

    def _count(self, arm: Arm, time: float) -> None:
        """Say an arm's and the sweep's counts and best value, at as many steps as trials have ended."""
        self._tally(arm.run, arm.counts(), arm.best(), time)
        counts = [a.counts() for a in self._arms.values()]
        bests = [best for a in self._arms.values() if (best := a.best()) is not None]
        self._tally(self._sweep_run, {k: sum(c[k] for c in counts) for k in counts[0]}, max(bests, default=None), time)

    def _tally(self, run: Run, counts: Mapping[str, int], best: float | None, time: float) -> None:
        ended = sum(counts.values()) - counts["trials/started"]
        self._change(run).add_points({"val/best": best, **counts}, time, ended)

    def _average(self, arm: Arm, time: float) -> None:
        """Say an arm's verified results, and the sweep's: those of the arm whose fresh seeds validate best."""
        self._change(arm.run).add_points(arm.summary() | arm.averages(), time, len(arm.tests()))
        validated = {name: one.tests("val/accuracy") for name, one in self._arms.items()}
        leader = max(validated, key=lambda name: statistics.fmean(validated[name] or [0.0]))
        change = self._change(self._sweep_run)
        change.tags["supersnn.best_arm"] = leader
        change.add_points(self._arms[leader].summary(), time, sum(len(one.tests()) for one in self._arms.values()))


def _pair(config: Event) -> str:
    teacher, student = config.get("teacher.name"), config["student.architecture"]
    return f"{teacher}→{student}" if teacher else str(student)
