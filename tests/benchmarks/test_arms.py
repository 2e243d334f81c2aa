"""The tables of a sweep from its packed journal."""

from pathlib import Path

from benchmarks import arms

JOURNAL = '{"event":"sweep","time":1.0,"driver":"a"}\n'
ROW = {"dataset": "digits", "a": "b", "b": "a", "n": 7, "difference": 0.0123, "low": -0.001, "high": 0.0256,
       "p": 0.0651, "p_flip": None, "verdict": "no difference found"}  # fmt: skip
FOUND = {
    "arms": {"a": {}, "b": {}},
    "datasets": ["digits"],
    "arms_by_dataset": [{"dataset": "digits", "arm": "a", "mean": 0.9512, "low": 0.94, "high": 0.9624}],
    "verdicts": [ROW],
}


def test_the_tables() -> None:
    accuracies, _, row, _, _, _, verdict = arms.lines(FOUND)
    assert accuracies.endswith("| a | b |")
    assert row == "| digits | 95.12 (94.00 … 96.24) | – |"
    assert verdict == "| digits | b − a | 7 | +1.23 | −0.10 … +2.56 | 0.065 | – | no difference found |"


def test_a_sweep_is_packed_and_read_again(tmp_path: Path) -> None:
    folder, evidence = tmp_path / "sweep", tmp_path / "evidence"
    folder.mkdir()
    images = "folder:/somebody/home/data/cats"
    (folder / "config.yaml").write_text(
        f'name: arms\ndataset: {{name: "{images}"}}\narms: {{a: {{}}}}\n', encoding="utf-8"
    )
    (folder / "journal.jsonl").write_text(JOURNAL, encoding="utf-8")
    arms.keep(folder, evidence)
    assert (evidence / arms.PACKED).stat().st_size < 200
    assert arms.kept(evidence)["sweep"] == "arms"
    assert 'name: "folder:data/cats"' in (evidence / "config.yaml").read_text(encoding="utf-8")
