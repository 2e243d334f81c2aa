"""Results with all keys of the contract, the printed tables, the files, and the page's text."""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis import compare, load, report
from analysis.findings import findings
from analysis.sentences import heading
from analysis.tables import Sweep
from supersnn.records.metrics import COSTS

Write = Callable[..., Path]

ARM_KEYS = {"trials", "finished", "stopped", "failed", "best_val", "verified", "test_mean", "test_sd", "spike_rate",
            "synaptic_ops", "energy_nj", "teacher", "gpu_s", "cpu_s"}  # fmt: skip
VERDICT_KEYS = {"a", "b", "difference", "low", "high", "p", "prob_improvement", "equivalent"}


@pytest.fixture
def sweep(synthetic: Write) -> Sweep:
    return load.sweep(synthetic(trials=24))


def page(sweeps: Iterable[Sweep], tmp_path: Path) -> str:
    report.write_html(sweeps, tmp_path / "out" / "report.html")
    return (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def without_data(text: str) -> str:
    """Return the page without scripts and styles."""
    return re.sub(r"<(script|style)\b.*?</\1>", "", text, flags=re.DOTALL)


def printed(results: dict[str, Any]) -> list[dict[str, str]]:
    """Return the rows of the printed verdicts."""
    return [row for _, rows in report.verdict_tables(results) for row in rows]


def test_results_keep_the_contract(sweep: Sweep) -> None:
    results = report.results(sweep)
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    assert results["sweep"] == "digits"
    assert list(results["arms"]) == ["direct", "homogeneous", "heterogeneous"]
    for arm in results["arms"].values():
        assert set(arm) >= ARM_KEYS
        assert len(arm["verified"]) == 10
        assert set(arm["verified"][0]) == {"seed", "val", "test"}
    assert [(row["a"], row["b"]) for row in results["verdicts"]] == [
        ("heterogeneous", "homogeneous"), ("homogeneous", "direct"), ("heterogeneous", "direct"),
    ]  # fmt: skip
    assert all(set(row) >= VERDICT_KEYS for row in results["verdicts"])


def test_results_follow_from_the_tables(sweep: Sweep) -> None:
    arm = report.results(sweep)["arms"]["homogeneous"]
    tests = sweep.verified.loc[sweep.verified["arm"] == "homogeneous", "test"]
    trials = sweep.trials[sweep.trials["arm"] == "homogeneous"]
    assert arm["test_mean"] == pytest.approx(tests.mean())
    assert arm["test_sd"] == pytest.approx(tests.std(ddof=1))
    assert arm["best_val"] == trials.loc[trials["eligible"], "value"].max()
    assert arm["trials"] == arm["finished"] + arm["stopped"] + arm["failed"] == 24
    assert arm["cpu_s"] == pytest.approx(trials["seconds"].sum() + 10 * 7.5)
    assert (arm["gpu_s"], arm["teacher"], arm["teacher_s"]) == (0, "resnet8", 32)


def test_gpu_seconds_are_by_what_the_trials_took(synthetic: Write) -> None:
    """The description may say `auto`, or have been changed since."""
    folder = synthetic(trials=4)
    journal = folder / "journal.jsonl"
    journal.write_text(journal.read_text().replace('"event":"start"', '"event":"start","gpus":0.5'))
    arm = report.results(load.sweep(folder))["arms"]["direct"]
    assert arm["gpu_s"] == pytest.approx(arm["cpu_s"] / 2)
    assert arm["gpu_s"] > 0


def test_results_of_a_sweep_that_has_only_begun(synthetic: Write) -> None:
    results = report.results(load.sweep(synthetic(done=False, trials=1)))
    json.dumps(results, allow_nan=False)
    assert not results["complete"]
    assert results["verdicts"] == []
    assert results["arms"]["direct"]["test_mean"] is None
    assert "yet" in results["answer"]
    assert {arm: values["pairing"] for arm, values in results["arms"].items()} == {
        "direct": "none",
        "homogeneous": "homogeneous",
        "heterogeneous": "heterogeneous",
    }


def test_results_with_a_single_seed_have_no_interval(synthetic: Write) -> None:
    results = report.results(load.sweep(synthetic(seeds=1)))
    json.dumps(results, allow_nan=False)
    assert results["verdicts"][0]["low"] is None
    assert results["verdicts"][0]["verdict"] == "too few seeds"
    assert "no interval from one seed" in results["answer"]
    assert printed(results)[0]["95 % interval"] == "–"


def test_printed_tables_have_a_row_an_arm_and_a_verdict(sweep: Sweep) -> None:
    results = report.results(sweep)
    arms, verdicts = report.table(results), printed(results)
    assert [row["arm"] for row in arms] == ["direct", "homogeneous", "heterogeneous"]
    assert (arms[0]["trials"], arms[0]["teacher"]) == ("24", "–")
    assert verdicts[0]["comparison"] == "heterogeneous − homogeneous"
    assert len({tuple(row) for row in arms}) == 1


def test_csv_and_parquet_hold_every_row(sweep: Sweep, tmp_path: Path) -> None:
    names = {path.name for path in report.write_csv(sweep, tmp_path / "csv")}
    assert {"trials.csv", "epochs.csv", "verified.csv", "teachers.csv", "verdicts.csv"} <= names
    assert len(pd.read_csv(tmp_path / "csv" / "epochs.csv")) == len(sweep.epochs)
    report.write_parquet(sweep, tmp_path / "parquet")
    trials = pd.read_parquet(tmp_path / "parquet" / "trials.parquet")
    pd.testing.assert_series_equal(trials["value"], sweep.trials["value"])


def test_every_cost_is_in_the_results_the_tables_and_the_page(sweep: Sweep, tmp_path: Path) -> None:
    text = page([sweep], tmp_path)
    for cost in COSTS:
        assert all(cost.column in arm for arm in report.results(sweep)["arms"].values())
        assert cost.key in sweep.trials
        assert cost.column in sweep.verified
        assert f"Accuracy against {cost.title}</h3>" in text
        assert text.count(f">{heading(cost)}</th>") >= 3


def test_page_needs_no_network_and_is_small(sweep: Sweep, tmp_path: Path) -> None:
    text = page([sweep], tmp_path)
    assert len(text.encode()) < 8_000_000
    body = without_data(text)
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", body)
    assert "@import" not in text.split("</style>")[0]
    assert text.count("<script") == text.count("</script>")


def test_page_begins_with_the_answer_and_says_whether_it_is_final(synthetic: Write, tmp_path: Path) -> None:
    complete = without_data(page([load.sweep(synthetic(trials=24))], tmp_path))
    answer = re.search(r'<p class="answer">(.*?)</p>', complete, re.DOTALL)
    assert answer is not None
    assert "heterogeneous" in answer.group(1).lower()
    assert complete.index('class="answer"') < complete.index("<table")
    assert "badge" not in complete
    begun = without_data(page([load.sweep(synthetic("begun", done=False))], tmp_path))
    assert '<span class="badge">so far</span>' in begun


def test_every_figure_has_a_text_alternative_and_its_data(sweep: Sweep, tmp_path: Path) -> None:
    text = page([sweep], tmp_path)
    plots = re.findall(r'<div class="plot" role="img" aria-label="([^"]*)" data-plot="([^"]*)"', text)
    assert len(plots) >= 12
    for label, key in plots:
        assert len(label) > 40
        drawn = re.search(rf'<script type="application/json" id="{re.escape(key)}">(.*?)</script>', text, re.DOTALL)
        assert drawn is not None
        assert json.loads(drawn.group(1))["data"]
    assert without_data(text).count("<details>") >= len(plots)


def test_names_from_the_sweep_cannot_become_markup(synthetic: Write, tmp_path: Path) -> None:
    folder = synthetic()
    journal = (folder / "journal.jsonl").read_text()
    (folder / "journal.jsonl").write_text(journal.replace('"failed:silent"', '"failed:</script><b>x"'))
    config = (folder / "config.yaml").read_text().replace("name: digits", "name: '<i>digits</i>'", 1)
    (folder / "config.yaml").write_text(config)
    text = page([load.sweep(folder)], tmp_path)
    assert "<i>digits" not in text
    assert "</script><b>x" not in text


@pytest.mark.parametrize("options", [
    {"done": False, "trials": 1, "epochs": 1},
    {"trials": 1, "seeds": 2},
    {"arms": {"direct": [None]}},
    {"arms": {"homogeneous": ["resnet8"], "mine": ["vgg8"]}},
    {"seeds": 1, "trials": 4},
])  # fmt: skip
def test_page_of_a_sweep_with_little_in_it(synthetic: Write, tmp_path: Path, options: dict[str, Any]) -> None:
    text = without_data(page([load.sweep(synthetic(**options))], tmp_path))
    assert "nan" not in re.sub(r"<[^>]*>", " ", text).lower().split()


def test_findings_warn_of_a_control_that_helps(synthetic: Write) -> None:
    arms = {"direct": [None], "heterogeneous": ["vgg8"], "shuffled": ["vgg8"]}
    for gain, warned in ((0.02, True), (0.0, False)):
        sweep = load.sweep(synthetic(f"gain{gain}", arms=arms, gains={"heterogeneous": 0.02, "shuffled": gain}))
        text = " ".join(findings(sweep, compare.verdicts(sweep.verified)))
        assert ("control with shuffled relations helps" in text) is warned


def test_findings_qualify_the_verdicts(synthetic: Write) -> None:
    sweep = load.sweep(synthetic(trials=24, seeds=5))
    text = " ".join(findings(sweep, compare.verdicts(sweep.verified)))
    assert "equal trials (24 an arm)" in text
    assert "with the teachers' cost" in text
    assert "the exact sign-flip test has p = " in text
    assert "the smallest possible with 5 units is 0.062" in text
    assert "cannot be separated from a stronger or larger teacher" in text
    assert "opened 15 times" in text
    assert "constraints" not in text


def test_shrinkage_is_left_out_where_the_validation_images_were_trained_on(synthetic: Write, tmp_path: Path) -> None:
    folder = synthetic()
    config = (folder / "config.yaml").read_text()
    for train_on, known in (("train", True), ("train+validation", False)):
        (folder / "config.yaml").write_text(config.replace("verify:\n", f"verify:\n  train_on: {train_on}\n"))
        sweep = load.sweep(folder)
        text = " ".join(findings(sweep, compare.verdicts(sweep.verified)))
        assert ("selection bias (winner's curse)" in text) is known
        assert ("trained on the validation images too" in text) is not known
        assert {arm["shrinkage"] is not None for arm in report.results(sweep)["arms"].values()} == {known}
        page([sweep], tmp_path)


def test_page_names_refitted_teachers(synthetic: Write, tmp_path: Path) -> None:
    folder = synthetic()
    assert "trained for" not in without_data(page([load.sweep(folder)], tmp_path))
    refit = {"event": "refit", "time": 1.0, "name": "resnet8", "digest": "r", "family": "resnet", "seconds": 31.0}
    with (folder / "journal.jsonl").open("a") as file:
        file.write(json.dumps(refit) + "\n")
    text = without_data(page([load.sweep(folder)], tmp_path))
    assert "trained for" in text
    assert "the final runs" in text


def test_page_of_an_empty_sweep(synthetic: Write, tmp_path: Path) -> None:
    folder = synthetic()
    for name in ("journal.jsonl", "verified.json", "test-ledger.jsonl"):
        (folder / name).unlink()
    assert "No two arms" in page([load.sweep(folder)], tmp_path)


def test_ledger_shows_the_beginning_of_the_weights_digest_where_there_is_one(synthetic: Write, tmp_path: Path) -> None:
    folder = synthetic()
    ledger = folder / "test-ledger.jsonl"
    first, second, *_ = map(json.loads, ledger.read_text().splitlines())
    ledger.write_text("".join(json.dumps(line) + "\n" for line in (first, {**second, "weights": None})))
    text = page([load.sweep(folder)], tmp_path)
    assert first["weights"][:12] in text
    assert first["weights"][:13] not in text
    del first["weights"]
    ledger.write_text(json.dumps(first) + "\n")
    assert first["purpose"] in page([load.sweep(folder)], tmp_path)


def test_failed_final_runs_are_named_and_counted(synthetic: Write, tmp_path: Path) -> None:
    folder = synthetic()
    lines = (folder / "journal.jsonl").read_text().splitlines()
    number = next(k for k, line in enumerate(lines) if '"verified"' in line and '"seed":1003' in line)
    event = json.loads(lines[number])
    lines[number] = json.dumps(event | {"ended": "failed:silent"})
    (folder / "journal.jsonl").write_text("\n".join(lines) + "\n")
    sweep = load.sweep(folder)
    results = report.results(sweep)
    run = {key: event[key] for key in ("arm", "trial", "seed")}
    test = event["metrics"]["test/accuracy"]
    assert results["failed_final_runs"] == [{**run, "reason": "silent", "test": pytest.approx(test)}]
    sentence = f"1 of 30 final runs failed: {run['arm']} seed 1003 (silent)."
    assert any(line.startswith(sentence) for line in results["cautions"])
    text = without_data(page([sweep], tmp_path))
    assert sentence in text
    assert "<h3>Failed final runs</h3>" in text
    assert "30 fresh seeds, 1 failed" in text


def test_a_skewed_arm_has_its_interquartile_mean_beside_the_mean(synthetic: Write, tmp_path: Path) -> None:
    folder = synthetic(noise=0.0005)
    lines = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    for event in lines:
        if event["event"] == "verified" and event["arm"] == "direct" and event["seed"] in (1000, 1001):
            event["metrics"]["test/accuracy"] -= 0.1
    (folder / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    sweep = load.sweep(folder)
    results = report.results(sweep)
    arm = results["arms"]["direct"]
    assert arm["test_iqm"] - arm["test_mean"] > arm["test_se"]
    assert report.table(results)[0]["IQM\n%"] == f"{100 * arm['test_iqm']:.2f}"
    assert "IQM" in printed(results)[1]
    assert any(line.startswith("The seeds of direct are skewed") for line in results["cautions"])
    assert ">IQM, %</th>" in page([sweep], tmp_path)


def test_energy_has_one_unit(sweep: Sweep, tmp_path: Path) -> None:
    assert report.table(report.results(sweep))[0]["energy\nnJ"] == "12,720"
    text = page([sweep], tmp_path)
    assert ">12,720</td>" in text
    cells = re.findall(r'data-label="energy an image, nJ">([^<]*)<', without_data(text))
    assert cells
    assert all(re.fullmatch(r"[\d,.]+", cell) for cell in cells)
    drawn = re.search(r'id="s0-energy-nj">(.*?)</script>', text, re.DOTALL)
    assert drawn is not None
    assert json.loads(drawn.group(1))["layout"]["xaxis"]["tickformat"] == ",~f"


def test_one_search_an_arm_is_about_its_winners(synthetic: Write) -> None:
    results = report.results(load.sweep(synthetic("one", gains={"heterogeneous": 0.03})))
    answer = results["answer"]
    assert answer.startswith("The winner found for heterogeneous is better than the winner found for homogeneous by ")
    assert "one search each; the search's own luck is not in this interval" in answer
    assert any(line.startswith("Estimate of the search's luck: another search of this size might") for line in
               results["remarks"])  # fmt: skip


def test_page_of_sweeps_that_differ_in_their_seed_is_about_arms(synthetic: Write, tmp_path: Path) -> None:
    sweeps = [load.sweep(synthetic(f"s{seed}", seed=seed, gains={"heterogeneous": 0.03})) for seed in range(4)]
    text = without_data(page(sweeps, tmp_path))
    head = text[: text.index("<article")]
    assert re.search(r"A teacher helps: heterogeneous gains \d\.\d\d points over no teacher\.", head)
    assert "4 paired searches, 10 fresh seeds a winner" in head
    assert "<h3>What one search would have said</h3>" in head
    assert "The winner found for" in text[text.index("<article") :]
    assert len(re.findall(r'\bid="([^"]*)"', text)) == len(set(re.findall(r'\bid="([^"]*)"', text)))


def test_page_of_several_questions_has_an_answer_to_each(synthetic: Write, tmp_path: Path) -> None:
    arms = {"direct": [None], "heterogeneous": ["vgg8"]}
    sweeps = [load.sweep(synthetic("one", seed=1)), load.sweep(synthetic("two", seed=2, arms=arms)),
              load.sweep(synthetic("three", seed=3, dataset="cifar10"))]  # fmt: skip
    head = without_data(page(sweeps, tmp_path)).split("<article")[0]
    assert re.findall("<h1>([^<]*)</h1>", head) == ["one, three", "two"]
    assert "asks another question" in head
    assert not re.search("95 % interval[^<]*20 paired", head.replace("\u00a0", " "))
