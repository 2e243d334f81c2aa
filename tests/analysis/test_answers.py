"""Which sweeps ask one question, and what is said about them together."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis import load, report
from analysis.answers import answers, headline
from analysis.questions import asked
from analysis.remarks import remarks
from analysis.tables import Sweep, collect, records

Write = Callable[..., Path]

CONFIG = {"name": "a", "seed": 0, "dataset": {"name": "digits"}, "arms": {"direct": {}}, "search": {"trials": 8},
          "verify": {"seeds": 10, "train_on": "train"}}  # fmt: skip


@pytest.mark.parametrize(("change", "same"), [
    ({"seed": 1}, True), ({"resources": {"cpus": 2}}, True), ({"verify": {"seeds": 3, "train_on": "train"}}, True),
    ({"dataset": {"name": "cifar10", "images": 4000}}, True), ({"dataset": {"name": "digits", "images": 400}}, False),
    ({"search": {"trials": 16}}, False), ({"arms": {"direct": {}, "logit": {}}}, False),
    ({"verify": {"seeds": 10, "train_on": "train+validation"}}, False), ({"student": {"time_steps": 4}}, False),
])  # fmt: skip
def test_sweeps_that_differ_in_seed_or_data_set_ask_the_same(change: dict[str, object], same: bool) -> None:
    one, other = asked([("a", CONFIG), ("b", CONFIG | {"name": "b"} | change)])
    assert (one == other) is same


def test_a_sweep_without_its_file_asks_for_itself() -> None:
    assert len(set(asked([("a", {}), ("b", {}), ("c", CONFIG)]))) == 3


def test_a_copy_is_no_replicate(synthetic: Write) -> None:
    folders = [synthetic("one", seed=1), synthetic("two", seed=1), synthetic("three", seed=3)]
    answer = answers([load.sweep(folder) for folder in folders])[0]
    assert dict(answer.copies) == {"two": "one"}
    assert set(answer.verdicts["n"]) == {2}
    assert remarks(answer)[0].startswith("two has the same final runs as one")


def test_sweeps_with_the_same_seed_are_named(synthetic: Write) -> None:
    folders = [synthetic("one", seed=1), synthetic("two", seed=2)]
    other = folders[1] / "config.yaml"
    other.write_text(other.read_text().replace("seed: 2\n", "seed: 1\n", 1))
    answer = answers([load.sweep(folder) for folder in folders])[0]
    assert any(line.startswith("one and two have the same seed") for line in remarks(answer))


def test_extending_after_a_verdict_is_a_look(synthetic: Write) -> None:
    folder = synthetic(seeds=6)
    lines = (folder / "journal.jsonl").read_text().splitlines()
    late = [json.loads(line) for line in lines if '"verified"' in line]
    ending = json.loads(lines[-1])
    added = [event | {"seed": event["seed"] + 100, "time": ending["time"] + 1} for event in late]
    start = {"event": "sweep", "driver": "d2", "time": ending["time"] + 0.5, "resumed": True}
    more = [*lines, *map(json.dumps, (start, *added, ending | {"time": ending["time"] + 2}))]
    before = load.sweep(folder)
    (folder / "journal.jsonl").write_text("\n".join(more) + "\n")
    after = load.sweep(folder)
    assert set(before.verified["look"]) == {1}
    assert after.verified.groupby("look").size().to_dict() == {1: 18, 2: 18}
    answer = answers([after])[0]
    assert set(answer.verdicts["look"]) == {2}
    assert "look 2" in answer.sentence
    assert any(line.startswith("This is look 2 at these results") for line in remarks(answer))


@pytest.mark.parametrize("replicates", [1, 3])
def test_other_winners_after_a_verdict_are_a_look(synthetic: Write, replicates: int) -> None:
    folder = synthetic(seeds=4, replicates=replicates, trials=4, anytime=True)
    lines = (folder / "journal.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    later = [event | {"trial": 100, "time": events[-1]["time"] + 1}
             for event in events if event["event"] in ("winner", "verified")]  # fmt: skip
    start = {"event": "sweep", "driver": "d2", "time": events[-1]["time"] + 0.5, "resumed": True}
    more = [*lines, *map(json.dumps, (start, *later, events[-1] | {"time": events[-1]["time"] + 2}))]
    before = answers([load.sweep(folder)])[0]
    (folder / "journal.jsonl").write_text("\n".join(more) + "\n")
    after = answers([load.sweep(folder)])[0]
    assert after.verified.groupby("winner")["look"].unique().map(list).to_dict() == {False: [1], True: [2]}
    for was, now in ((before.verdicts, after.verdicts), (before.equal_energy, after.equal_energy)):
        assert (was["n"] == now["n"]).all()
        assert (set(was["look"]), set(now["look"])) == ({1}, {2})
        assert ((now["p"] > was["p"]) | (was["p"] == 1)).all()
        assert (now["high"] > was["high"]).all()
    assert any(line.startswith("This is look 2 at these results: final runs were added") for line in remarks(after))


def test_several_searches_answer_whether_a_teacher_helps(synthetic: Write) -> None:
    gains = {"homogeneous": 0.03, "heterogeneous": 0.03}
    sweeps = [load.sweep(synthetic(f"s{seed}", seed=seed, gains=gains, noise=0.002)) for seed in range(5)]
    answer = answers(sweeps)[0]
    assert re.match(r"A teacher helps: homogeneous gains \d\.\d\d points and heterogeneous gains ", answer.headline)
    assert "The winner found for" not in " ".join(answer.lines())
    assert list(answer.one_search["searches"]) == [5, 5, 5]
    assert answer.one_search.loc[1, "better"] == 5
    assert any("points between searches of an arm" in line for line in remarks(answer))


def test_data_sets_have_verdicts_of_their_own_and_one_together(synthetic: Write) -> None:
    gains = {"a": {"heterogeneous": 0.04}, "b": {"heterogeneous": 0.0}}
    sweeps = [load.sweep(synthetic(f"{data}{seed}", seed=seed, dataset=data, gains=gains[data]))
              for data in gains for seed in range(3)]  # fmt: skip
    answer = answers(sweeps)[0]
    rows = records(answer.verdicts)
    assert [row["dataset"] for row in rows] == ["overall"] * 3 + ["a"] * 3 + ["b"] * 3
    assert "over 2 data sets" in answer.headline
    assert {row["verdict"] for row in rows if row["dataset"] == "a" and row["a"] == "heterogeneous"} == {"better"}
    assert any(line.startswith("No difference found between heterogeneous and direct: ") and " on b " in line
               for line in answer.lines())  # fmt: skip
    assert len(collect(sweeps).verified["question"].unique()) == 1


def test_headline_names_harm() -> None:
    row = {"dataset": "d", "a": "logit", "b": "direct", "difference": -0.02, "low": -0.03, "high": -0.01, "p": 0.001,
           "verdict": "worse", "unit": "search", "n": 5, "datasets": 1, "equivalent": False}  # fmt: skip
    assert headline([row]) == "A teacher harms: logit loses 2.00 points against no teacher."


def replicated(synthetic: Write, **options: object) -> Sweep:
    gains = {"homogeneous": 0.03, "heterogeneous": 0.03}
    usual = {"datasets": ("digits", "fashion-mnist"), "replicates": 3, "seeds": 2, "gains": gains}
    return load.sweep(synthetic("replicated", **(usual | options)))


def test_replicates_and_data_sets_of_one_sweep_are_searches(synthetic: Write) -> None:
    sweep = replicated(synthetic)
    assert (sweep.datasets, sweep.replicates, sweep.arms[0]) == (["digits", "fashion-mnist"], 3, "direct")
    assert list(sweep.problems["problem"]) == []
    for table, rows in ((sweep.trials, 8), (sweep.verified, 2)):
        assert (table.groupby(["dataset", "replicate", "arm"]).size() == rows).all()
        assert table.groupby(["dataset", "replicate", "arm"]).ngroups == 18
    assert sweep.verified["images"].eq(360).all()
    assert sweep.trials.groupby(["dataset", "replicate", "arm"])["winner"].sum().eq(1).all()
    results = report.results(sweep)
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    assert [(row["dataset"], row["n"], row["unit"]) for row in results["verdicts"]][::3] == [
        ("overall", 6, "search"), ("digits", 3, "search"), ("fashion-mnist", 3, "search"),
    ]  # fmt: skip
    assert len(results["arms_by_dataset"]) == 6
    assert results["arms"]["direct"]["searches"] == 6
    assert results["headline"].startswith("A teacher helps over 2 data sets: ")


def test_page_of_replicates_has_the_table_of_a_paper(synthetic: Write, tmp_path: Path) -> None:
    sweep = replicated(synthetic, trials=2)
    report.write_html([sweep], tmp_path / "report.html")
    text = re.sub(r"<(script|style)\b.*?</\1>", "", (tmp_path / "report.html").read_text(), flags=re.DOTALL)
    first = re.search(r"<tbody>(.*?)</tbody>", text, re.DOTALL)
    assert first is not None
    rows = [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in first.group(1).split("</tr>") if "<td" in row]
    assert [row[:2] for row in rows] == [
        ["digits", "accuracy, %"], ["digits", "gain, points"], ["fashion-mnist", "accuracy, %"],
        ["fashion-mnist", "gain, points"], ["all data sets", "gain, points"],
    ]  # fmt: skip
    assert re.fullmatch(r"\d\d\.\d\d ± \d\.\d\d", rows[0][2])
    assert "The arms, verified (digits)" in text
    assert "The arms, verified (fashion-mnist)" in text
    assert "What one search would have said" in text
    assert "searches of an arm" in text


def test_one_replicate_on_two_data_sets_has_no_verdict_over_them(synthetic: Write) -> None:
    answer = answers([replicated(synthetic, replicates=1, seeds=6)])[0]
    assert set(answer.verdicts["dataset"]) == {"digits", "fashion-mnist"}
    assert set(answer.verdicts["unit"]) == {"seed"}
    assert "the winner found for heterogeneous" in answer.headline
    assert any("need two searches of each arm" in line for line in remarks(answer))
