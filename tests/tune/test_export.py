"""What an export is made of: the right seed, the search's record, a card that says what the figures say."""

from pathlib import Path
from typing import Any

import pytest

from supersnn import exported
from supersnn.checking import check
from supersnn.config import TrainConfig
from supersnn.config_model import flatten, with_values
from supersnn.data import training_data
from supersnn.errors import UserError
from supersnn.teacher_sources import teacher_source_for
from supersnn.training import EpochReport, train
from tune.outcome.card import card
from tune.outcome.export import median_seed, parse_trial
from tune.outcome.searched import searched
from tune.outcome.single import export_training

CONFIG = TrainConfig.model_validate(
    {
        "dataset": {"name": "digits", "images": 300},
        "student": {"architecture": "resnet8"},
        "teacher": {"name": "vgg8"},
        "loss": {"relation": {"weight": 30.0}},
        "train": {"epochs": 2},
    }
)


@pytest.mark.parametrize(
    ("values", "seed"),
    [
        ({5: 0.3, 6: 0.1, 7: 0.2}, 7),
        ({5: 0.4, 6: 0.1, 7: 0.2, 8: 0.3}, 7),
        ({8: 0.5, 5: 0.5, 6: 0.5}, 6),
        ({3: 0.9}, 3),
    ],
)
def test_the_exported_seed_is_the_median_one(values: dict[int, float], seed: int) -> None:
    assert median_seed([{"seed": key, "val": value} for key, value in values.items()]) == seed


def test_a_trial_is_what_the_journal_says() -> None:
    config = flatten(CONFIG)

    def epoch(trial: int, number: int, **metrics: float) -> dict[str, Any]:
        told = {key.replace("_", "/", 1): value for key, value in metrics.items()}
        return {"event": "epoch", "arm": "a", "trial": trial, "epoch": number, "metrics": told}

    events: list[dict[str, Any]] = [
        {"event": "sweep", "driver": "x"},
        {"event": "start", "arm": "a", "trial": 0, "config": config, "params": {}},
        {"event": "start", "arm": "a", "trial": 1, "config": config, "params": {}},
        epoch(0, 1, val_accuracy=0.1, ops_synaptic=1),
        epoch(0, 2, val_accuracy=0.2, ops_synaptic=2),
        epoch(0, 2, val_accuracy=0.9, ops_synaptic=9),
        {"event": "end", "arm": "a", "trial": 0, "end": "finished", "value": 0.2},
        epoch(1, 1, val_accuracy=0.3, ops_synaptic=3),
        {"event": "end", "arm": "a", "trial": 1, "end": "stopped", "value": 0.3},
    ]
    found = searched(events)
    assert found.keys() == {("a", 0), ("a", 1)}
    assert found["a", 0].config == CONFIG
    assert (found["a", 0].end, found["a", 0].value) == ("finished", 0.2)
    assert (found["a", 0].accuracy, found["a", 0].synaptic_ops) == (0.2, 2)
    assert (found["a", 1].end, found["a", 1].accuracy) == ("stopped", None)
    several = [e for e in events if e.get("trial") != 1]
    several[-2]["metrics"] |= {"val/seed_accuracy": 0.4}
    several.pop(-3)
    assert searched(several)["a", 0].accuracy == 0.4


def test_a_trial_is_named_arm_and_number() -> None:
    assert parse_trial("my.arm-2/14") == ("my.arm-2", 14)
    for wrong in ("direct", "direct/", "direct/x"):
        with pytest.raises(UserError, match=f"--trial {wrong}: expected ARM/N"):
            parse_trial(wrong)


METRICS: dict[str, Any] = {
    "sweep": "s",
    "arm": "heterogeneous",
    "trial": 3,
    "trials": 8,
    "search_value": 0.91,
    "rank_value": None,
    "seed": 1001,
    "val_accuracy": 0.9,
    "test_accuracy": 0.89,
    "verified_seeds": 2,
    "test_mean": 0.885,
    "test_sd": 0.007,
    "test_interval_95": [0.822, 0.948],
    "val_mean": 0.895,
    "shrinkage": 0.015,
    "reproduced": None,
    "train_on": "train",
    "spike_rate": 0.123,
    "synaptic_ops": 1234567.0,
    "mac": 9216.0,
    "energy_nj": 1153.5,
    "seconds": 2.5,
    "verified": [{"seed": 1000, "val": 0.89, "test": 0.88}, {"seed": 1001, "val": 0.9, "test": 0.89}],
    "tolerance": 0.01,
    "split": "0123456789abcdef",
    "teacher": {
        "name": "vgg8",
        "family": "vgg",
        "digest": "d",
        "parameters": 3916234,
        "val_accuracy": 0.97,
        "epochs": 20,
        "seconds": 12.3,
        "bank_seconds": 0.4,
    },
    "energy_constants_pj": {"mac": 4.6, "ac": 0.9},
    "forms": {
        "nir": {"refused": "activation: neurons with soft reset"},
        "onnx": {
            "file": "student.onnx",
            "images": 16,
            "same_spikes": 15,
            "spikes_differing": 1e-7,
            "logits_difference": 2e-6,
            "same_class": 16,
        },
    },
}


def test_the_card_says_what_the_figures_say() -> None:
    text = card(CONFIG, METRICS, training_data(CONFIG.dataset))
    for words in (
        "88.50 %",
        "82.20 % to 94.80 %",
        "1.50 points",
        "| 1001 | 90.00 % | 89.00 % |",
        "`vgg8` of the family vgg (heterogeneous), 3,916,234 parameters",
        "trained for 20 epochs in 12.3 s",
        "30 × centred_cosine relations",
        "nir: not written. activation: neurons with soft reset.",
        "the same spikes on 15",
        "1,234,567",
        "0123456789abcdef",
        "too few for a verdict",
        "uint8 [B, 1, 8, 8]",
    ):
        assert words in text
    assert "{" not in text
    assert "saw the validation images" not in text


def test_the_card_of_an_unverified_trial_says_so() -> None:
    nothing = dict.fromkeys(("test_accuracy", "test_mean", "test_sd", "test_interval_95", "shrinkage", "teacher"))
    plain = with_values(CONFIG, {"teacher.name": None, "loss.relation.weight": 0.0})
    told = {**METRICS, **nothing, "verified_seeds": 0, "verified": [], "reproduced": True}
    text = card(plain, told, training_data(plain.dataset))
    assert "not measured: this trial is not verified" in text
    assert "came to the accuracy" in " ".join(text.split())
    assert "None: trained from the labels alone." in text
    assert "did NOT come to" in card(plain, {**told, "reproduced": False}, training_data(plain.dataset))


def test_the_card_of_a_final_training_on_all_images_says_so() -> None:
    text = card(CONFIG, {**METRICS, "train_on": "train+validation", "shrinkage": None}, training_data(CONFIG.dataset))
    assert "saw the validation images too" in text


def test_a_training_that_failed_is_not_exported(tmp_path: Path) -> None:
    failed = EpochReport(1, {}, "failed:silent", lambda: ({}, {}))
    with pytest.raises(UserError, match="failed:silent"):
        export_training(tmp_path / "export", CONFIG, failed, training_data(CONFIG.dataset), None, tmp_path)
    assert not (tmp_path / "export").exists()


@pytest.mark.parametrize("train_on", ["train", "train+validation"])
def test_a_training_by_itself_is_exported_with_forms_and_card(train_on: str, tmp_path: Path) -> None:
    short = {"teacher.epochs": 1, "dataset.augment.views": 2, "train.epochs": 1, "dataset.train_on": train_on}
    config = with_values(CONFIG, short)
    data = training_data(config.dataset)
    teacher_source = teacher_source_for(config, data, tmp_path)
    *_, last = train(config, data, teacher_source)
    told = export_training(tmp_path / "export", config, last, data, teacher_source, tmp_path / "teachers")
    student = exported.load(tmp_path / "export")
    assert student.config == config
    assert {form: facts["file"] for form, facts in student.metrics["forms"].items()} == {
        "nir": "student.nir",
        "onnx": "student.onnx",
    }
    assert told["val_accuracy"] == last.metrics.get("val/accuracy", told["val_accuracy"])
    assert told["synaptic_ops"] == pytest.approx(last.metrics["ops/synaptic"])
    assert told["teacher"]["name"] == "vgg8"
    assert told["teacher"]["bank_seconds"] > 0
    assert all(one.agrees for one in check(tmp_path / "export"))
    text = (tmp_path / "export" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert text.startswith("# resnet8 on digits: a spiking student\n\n## Figures")
    assert "no choice among several is known" in text
    assert "the test images stayed closed" in text
    assert "None" not in text
    assert ("saw the validation images too" in text) is (train_on != "train")
