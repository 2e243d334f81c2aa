"""A driver whose trials take no time, to which requests are given."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from supersnn.config_model import parse
from supersnn.records.events import RequestTaken
from supersnn.records.journal import read
from supersnn.records.searches import split_key
from tune.description.sweep import SweepConfig
from tune.requests import Request, submit
from tune.search.messages import Report
from tune.search.search import Search
from tune.steering import Steering
from tune.store import Store
from tune.sweep_driver import SweepDriver, open_sweep

PLAIN: dict[str, Any] = {
    "name": "one",
    "dataset": {"name": "digits"},
    "student": {"architecture": "resnet8"},
    "train": {"epochs": 2},
    "arms": {"direct": {}, "soft": {"set": {"neuron.decay": 0.3}}},
    "space": {"optimizer.lr": {"log": [0.01, 0.1]}, "neuron.reset": {"categorical": ["hard", "soft"]}},
    "search": {"trials": 4, "scheduler": "none"},
}
SWEEP = parse(SweepConfig, PLAIN, "test")
VALUES = {"optimizer.lr": 0.05}
"""Of a trial that somebody gives."""


class Killed(BaseException):
    """Ends a driver at once, as SIGKILL does."""


class Running:
    """A driver whose trials take no time: it does what a `SweepRunner` does in its search."""

    def __init__(self, driver: SweepDriver) -> None:
        self.driver, self.steering = driver, Steering(driver)
        self.steering.take_up()
        self.search = self._searching()

    def _searching(self) -> Search:
        self.steering.adopt_waiting()
        driver = self.driver
        search = Search(driver.studies, driver.record, driver.budget, driver.folder.path, driver.storage, driver.token)
        driver.studies.claim(driver.sweep_id)
        search.reconcile()
        self.steering.search = search
        return search

    def take_up(self) -> None:
        self.steering.take_up()
        if self.search.left:
            self.search = self._searching()

    def trials(self, most: int = 100, fail: bool = False, best: int = 0) -> list[str]:
        """Run so many trials to their ends, or all that are left; return their names.

        Args:
            most: how many.
            fail: whether they fail.
            best: up to this number each trial of a search is better than those before, later ones no more.
        """
        ended: list[str] = []
        while len(ended) < most and (job := self.search.next_job()) is not None:
            ended.append(job.key)
            arm, number = split_key(job.key)
            for epoch in range(job.reported + 1, 3):
                how = None if epoch < 2 else "failed:nan" if fail else "finished"
                value = 0.5 + len(arm) / 100 + epoch / 1000 + min(number, best) / 1000
                self.search.reported(job.key, Report(epoch, {"val/accuracy": value, "spikes/rate": 0.1}, how))
        return ended

    def ask(self, *asked: Request) -> list[str | None]:
        """Let the driver take up requests; return why each was refused, None for those that were granted."""
        for request in asked:
            submit(self.driver.folder, request)
        self.take_up()
        return [self.driver.record.state.requests[request.id].refused for request in asked]

    def counts(self) -> dict[str, int]:
        return {name: counts.suggested for name, counts in self.driver.studies.counts.items()}

    def params(self, arm: str, number: int) -> dict[str, Any]:
        trial = self.driver.record.state.trial(arm, number)
        assert trial is not None
        return trial.params


@contextmanager
def driving(sweep: SweepConfig, store: Store) -> Iterator[Running]:
    with open_sweep(sweep, store) as driver, driver.recording():
        yield Running(driver)


def events(store: Store) -> list[RequestTaken]:
    found = (event for event, _ in read(store.sweep("one").journal, kinds=("request",)))
    return [event for event in found if isinstance(event, RequestTaken)]
