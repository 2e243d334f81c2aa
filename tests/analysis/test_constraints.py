"""With constraints the best trial of every view is the state's: the best feasible one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from analysis import budget, compare, frontier, importance, load, pairings, report
from analysis.figures import parameters, search
from analysis.figures.style import description
from analysis.findings import findings
from analysis.tables import Sweep, best_first

Write = Callable[..., Path]
BOUND = {"spikes/rate": 0.2}


@pytest.fixture(params=[1, 2], ids=["schema1", "schema2"])
def sweep(synthetic: Write, request: pytest.FixtureRequest) -> Sweep:
    """A sweep whose best finished trial is infeasible in each arm."""
    sweep = load.sweep(synthetic(trials=48, constraints=BOUND, schema=request.param, arms={
        "direct": [None], "homogeneous": ["resnet8"], "heterogeneous": ["vgg8"],
    }))  # fmt: skip
    finished = sweep.trials[sweep.trials["state"] == "finished"]
    for arm, part in finished.groupby("arm"):
        assert part["value"].max() > bests(sweep)[str(arm)] + 1e-3
    return sweep


def bests(sweep: Sweep) -> dict[str, float]:
    """Return each arm's best value by the state."""
    return {name: arm.best_value for name, arm in sweep.state.searches.items() if arm.best_value is not None}


def test_trials_have_the_states_marks(sweep: Sweep) -> None:
    trials = sweep.trials
    ended = trials[trials["state"] != "running"]
    assert (ended["feasible"] == (ended["spikes/rate"] <= 0.2)).all()
    assert not trials["eligible"][trials["feasible"].eq(False) | (trials["state"] != "finished")].any()
    assert trials[trials["best"]].set_index("arm")["value"].to_dict() == bests(sweep)
    ranked = best_first(trials).groupby("arm").head(1)
    assert ranked.set_index("arm")["value"].to_dict() == bests(sweep)


def test_results_have_the_best_feasible_trial(sweep: Sweep) -> None:
    arms = report.results(sweep)["arms"]
    assert {name: arm["best_val"] for name, arm in arms.items()} == bests(sweep)
    assert {name: arm["trial"] for name, arm in arms.items()} == {n: a.best for n, a in sweep.state.searches.items()}


def test_budgets_end_at_the_best_feasible_trial(sweep: Sweep) -> None:
    path = budget.progress(sweep.trials, sweep.teachers)
    assert path.groupby("arm")["best"].last().to_dict() == bests(sweep)
    assert budget.at_equal(sweep.trials, sweep.teachers).set_index("arm")["best"].to_dict() == bests(sweep)
    curves = budget.expected_best_by_arm(sweep.trials)
    for column in ("expected", "low", "high"):
        assert curves.groupby("arm")[column].last().to_dict() == pytest.approx(bests(sweep))


def test_fronts_importances_and_pairings_leave_infeasible_trials_out(sweep: Sweep) -> None:
    for points in (
        frontier.points(sweep.trials, "energy/nj"),
        importance.landscape(sweep.trials, "neuron.decay", "neuron.threshold"),
    ):
        assert points.groupby("arm")["value"].max().to_dict() == bests(sweep)
    along = importance.marginals(sweep.trials, "neuron.threshold")
    assert along.groupby("arm")["best"].max().to_dict() == bests(sweep)
    eligible = sweep.trials.groupby("arm")["eligible"].sum().to_dict()
    assert pairings.matrix(sweep.trials, sweep.teachers).set_index("arm")["trials"].to_dict() == eligible
    assert importance.importances(sweep.trials, repeats=2).groupby("arm")["trials"].first().to_dict() == eligible


def test_figures_and_page_show_the_best_feasible_trial(sweep: Sweep, tmp_path: Path) -> None:
    best = max(bests(sweep).values())
    points = importance.landscape(sweep.trials, "neuron.decay", "neuron.threshold")
    assert f"with {100 * best:.2f} %" in description(parameters.landscape(points, "x", "y"))
    progress = description(search.best_so_far(budget.progress(sweep.trials, sweep.teachers)))
    assert all(f"{arm} {100 * value:.2f} %" in progress for arm, value in bests(sweep).items())
    violating = int((sweep.trials["feasible"].eq(False) & (sweep.trials["state"] == "finished")).sum())
    text = " ".join(findings(sweep, compare.verdicts(sweep.verified)))
    assert f"{violating} of {(sweep.trials['state'] == 'finished').sum()} finished trials violate" in text
    assert "(firing rate ≤ 0.2)" in text
    report.write_html([sweep], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    ranking = page.split("Trials, best first", 1)[1].split("<tbody>", 1)[1].split("</tr>", 1)[0]
    assert f"{100 * best:.2f}" in ranking
    assert ">yes<" in ranking


def test_winners_whose_final_runs_violate_a_bound_are_named(synthetic: Write) -> None:
    """Final runs have a firing rate of 0.2 on average, whatever the search's seed had."""

    def said(name: str, **options: Any) -> list[str]:
        found = report.results(load.sweep(synthetic(name, trials=48, schema=2, **options)))
        return [text for text in found["cautions"] if "search.constraints" in text]

    assert said("within", constraints=BOUND) == []
    (one,) = said("beyond", constraints={"spikes/rate": 0.19995, "energy/nj": 1e9})
    assert "direct firing rate 0.2 (bound 0.19995), homogeneous" in one
    assert "energy" not in one
    (several,) = said("several", constraints={"spikes/rate": 0.19}, datasets=["a", "b"], replicates=2)
    assert "direct on a, replicate 0, firing rate 0.2 (bound 0.19)" in several
    assert "and 6 more" in several


def test_replicates_of_a_warm_start_are_said_to_be_less_independent(synthetic: Write) -> None:
    def cautions(name: str, warm: bool, **options: Any) -> str:
        folder = synthetic(name, **options)
        file = folder / "config.yaml"
        config = yaml.safe_load(file.read_text())
        config["search"] |= {"warm_start": ["earlier"]} if warm else {}
        file.write_text(yaml.safe_dump(config))
        return " ".join(report.results(load.sweep(folder))["cautions"])

    assert "learned from earlier (search.warm_start)" in cautions("both", True, replicates=2)
    assert "less independent" in cautions("again", True, replicates=2)
    assert "warm_start" not in cautions("warm", True)
    assert "warm_start" not in cautions("replicates", False, replicates=2)


def test_a_stated_feasibility_counts_more_than_the_config(synthetic: Write) -> None:
    folder = synthetic(schema=2, constraints=BOUND)
    journal = folder / "journal.jsonl"
    journal.write_text(journal.read_text().replace('"feasible":false', '"feasible":true'))
    sweep = load.sweep(folder)
    assert sweep.trials["feasible"].all()
    assert json.loads(json.dumps(report.results(sweep)))["arms"]["direct"]["best_val"] == bests(sweep)["direct"]
