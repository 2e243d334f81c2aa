"""Export folders: the exported seed, results on disk, the model card."""

import json
from pathlib import Path
from typing import Any

import pytest

from supersnn import exported
from supersnn.checking import check
from supersnn.config import TrainConfig
from supersnn.config_model import with_values
from supersnn.data import training_data
from supersnn.epoch_report import EpochReport
from supersnn.errors import UserError
from supersnn.teacher_sources import teacher_source_for
from supersnn.training import train
from tune.outcome.card import card
from tune.outcome.export import median_seed, parse_trial, warnings_of
from tune.outcome.final_result import FinalResult
from tune.outcome.int8 import judged
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
    results = [
        FinalResult(seed=key, metrics={"val/accuracy": value}, images=1, seconds=1.0, ended="finished")
        for key, value in values.items()
    ]
    assert median_seed(results) == seed


def test_a_result_of_the_first_version_is_read(tmp_path: Path) -> None:
    columns: dict[str, Any] = {
        "seed": 7,
        "val": 0.5,
        "test": 0.4,
        "test_top5": 0.9,
        "test_loss": None,
        "images": 20,
        "opened": 1.0,
    }
    columns |= {
        "spike_rate": 0.1,
        "synaptic_ops": 5.0,
        "mac": 6.0,
        "energy_nj": 7.0,
        "seconds": 2.0,
        "rates": {"a": 0.1},
    }
    (tmp_path / "result.json").write_text(json.dumps({**columns, "ended": "finished"}))
    result = FinalResult.read(tmp_path / "result.json")
    assert (result.val, result.test, result.metrics["spikes/rate"], result.metrics["ops/mac"]) == (0.5, 0.4, 0.1, 6.0)
    assert {key: value for key, value in result.row().items() if key in columns} == columns
    result.write(tmp_path / "again.json")
    assert FinalResult.read(tmp_path / "again.json") == result


def test_a_trial_is_named_arm_and_number() -> None:
    assert parse_trial("my.arm-2/14") == ("my.arm-2", 14)
    for wrong in ("direct", "direct/", "direct/x"):
        with pytest.raises(UserError, match=f"^{wrong}: expected ARM/N"):
            parse_trial(wrong)


METRICS: dict[str, Any] = {
    "sweep": "s",
    "arm": "heterogeneous",
    "trial": 3,
    "trials": 8,
    "replicate": 0,
    "replicates": 1,
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
        "Trained for 20 epochs in 12.3 s",
        "30 × centred_cosine relations",
        "nir: not written. activation: neurons with soft reset.",
        "identical spikes on 15",
        "1,234,567",
        "0123456789abcdef",
        "too few for a verdict",
        "uint8 [B, 1, 8, 8]",
    ):
        assert words in text
    assert "{" not in text
    assert "included the validation images" not in text


def test_figures_of_neurobench_that_equal_ours_share_their_rows() -> None:
    theirs = {"effective_acs": METRICS["synaptic_ops"], "effective_macs": METRICS["mac"] + 1, "dense_ops": 5e6}
    text = card(CONFIG, {**METRICS, **theirs}, training_data(CONFIG.dataset))
    assert "| synaptic operations an image; effective ACs an image (NeuroBench) | 1,234,567 |" in text
    assert "| multiply-accumulates an image | 9,216 |" in text
    assert "| effective MACs an image (NeuroBench) | 9,217 |" in text
    assert text.count("1,234,567") == text.count("dense operations") == 1


def test_the_card_of_an_unverified_trial_says_so() -> None:
    nothing = dict.fromkeys(("test_accuracy", "test_mean", "test_sd", "test_interval_95", "shrinkage", "teacher"))
    plain = with_values(CONFIG, {"teacher.name": None, "loss.relation.weight": 0.0})
    metrics = {**METRICS, **nothing, "verified_seeds": 0, "verified": [], "reproduced": True}
    text = card(plain, metrics, training_data(plain.dataset))
    assert "not measured (unverified trial)" in text
    assert "reproduced the accuracy" in " ".join(text.split())
    assert "None: trained from labels only." in text
    assert "did NOT reproduce" in card(plain, {**metrics, "reproduced": False}, training_data(plain.dataset))


def test_the_card_of_a_final_training_on_all_images_says_so() -> None:
    text = card(CONFIG, {**METRICS, "train_on": "train+validation", "shrinkage": None}, training_data(CONFIG.dataset))
    assert "included the validation images" in text


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
    metrics = export_training(tmp_path / "export", config, last, data, teacher_source, tmp_path / "teachers")
    student = exported.load(tmp_path / "export")
    assert student.config == config
    assert {form: facts["file"] for form, facts in student.metrics["forms"].items()} == {
        "nir": "student.nir",
        "nir-by-layer": "student-by-layer.nir",
        "onnx": "student.onnx",
    }
    assert metrics["val_accuracy"] == last.metrics.get("val/accuracy", metrics["val_accuracy"])
    assert metrics["synaptic_ops"] == pytest.approx(last.metrics["ops/synaptic"])
    assert metrics["teacher"]["name"] == "vgg8"
    assert metrics["teacher"]["bank_seconds"] > 0
    assert all(one.agrees for one in check(tmp_path / "export"))
    text = (tmp_path / "export" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert text.startswith("# resnet8 on digits: a spiking student\n\n## Metrics")
    assert "None: this is the single training" in text
    assert "the test set was not used" in text
    assert "None" not in text.replace("None: this is the single training", "")
    assert ("included the validation images" in text) is (train_on != "train")


def test_weights_of_8_bits_and_the_target_are_in_the_export(tmp_path: Path) -> None:
    config = with_values(CONFIG, {"teacher.name": None, "loss.relation.weight": 0.0, "train.epochs": 1})
    config = with_values(config, {"export.int8": True, "target": "speck"})
    data = training_data(config.dataset)
    *_, last = train(config, data)
    metrics = export_training(tmp_path / "export", config, last, data, None, tmp_path / "teachers")
    assert exported.load(tmp_path / "export").config == config
    found = metrics["int8"]
    assert found["test_accuracy"] is None
    assert found["val_accuracy"] == found["validation"]["int8"]["accuracy"]
    assert found["validation"]["float"]["accuracy"] == pytest.approx(metrics["val_accuracy"])
    assert found["validation"]["least"] == 539
    assert [one.figure for one in check(tmp_path / "export")] == ["val_accuracy", "int8_val_accuracy"]
    text = (tmp_path / "export" / "MODEL_CARD.md").read_text()
    assert "| validation | 8 bits |" in text
    assert "takes 539 images even if no class changes" in text
    assert "## Target\n\nSynSense Speck 2. Published limits that the student exceeds:" in text
    assert any(line.startswith("target SynSense Speck 2: residual connections: ") for line in warnings_of(metrics))
    assert warnings_of({}) == []


def test_the_card_tells_what_8_bits_are_worth_on_the_test_images() -> None:
    compared = judged({"images": 10_000, "gained": 40, "lost": 60, "float": FIGURES, "int8": FIGURES})
    added = {"int8": {"file": "student-int8.safetensors", "validation": compared, "test": compared}}
    text = card(CONFIG, METRICS | added, training_data(CONFIG.dataset))
    assert "On 10000 test images, 60 lost and 40 gained: -0.20 points" in text
    assert "the loss is below 0.5 points" in text
    without = card(CONFIG, METRICS | {"int8": {**added["int8"], "test": None}}, training_data(CONFIG.dataset))
    assert "had been opened for these weights before" in without


FIGURES = {"accuracy": 0.9, "spike_rate": 0.1, "synaptic_ops": 1e5, "energy_nj": 90.0}
