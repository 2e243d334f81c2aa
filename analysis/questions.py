"""Which sweeps ask the same question, so that their searches are replicates of one another.

Sweeps that differ in nothing but their seed repeat one another. Those that differ in their data set besides ask the
same question on several data sets. Any other difference makes it another question, with verdicts of its own.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from supersnn.digests import digest

UNASKED = ("name", "seed", "resources", "replicates", "dataset", "datasets", "target", "export")
"""The keys of a sweep file that may differ between sweeps of the same question; data sets are compared by label."""
UNASKED_OF_VERIFY = ("seeds", "first_seed")


def question_of(config: Mapping[str, Any], name: str) -> str:
    """Return a digest of what a sweep asks.

    Args:
        config: the sweep file.
        name: of the sweep, which alone asks what a file without arms does.
    """
    asked = {key: value for key, value in config.items() if key not in UNASKED and value is not None}
    if list(asked.get("vary") or ("search",)) == ["search"]:
        asked.pop("vary", None)
    if not asked.get("arms"):
        return _digest(name)
    if isinstance(verify := asked.get("verify"), Mapping):
        asked["verify"] = {key: value for key, value in verify.items() if key not in UNASKED_OF_VERIFY}
    return _digest(asked)


def datasets_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Return a digest of the settings of each data set of a sweep, by the data set's label."""
    several = config.get("datasets")
    if isinstance(several, Mapping):
        return {str(label): _digest(settings) for label, settings in several.items()}
    if isinstance(several, Sequence) and not isinstance(several, str):
        return {str(label): _digest(config.get("dataset")) for label in several}
    alone = config.get("dataset")
    return {str(alone.get("name")): _digest(alone)} if isinstance(alone, Mapping) else {}


def asked(sweeps: Iterable[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Return the question of each sweep, given as its name and its file, in the light of the others.

    Sweeps whose files give one label to different data sets ask different questions.
    """
    known: dict[str, list[tuple[str, dict[str, str]]]] = {}
    questions = []
    for name, config in sweeps:
        question, datasets = question_of(config, name), datasets_of(config)
        variants = known.setdefault(question, [])
        for variant, labels in variants:
            if all(labels.get(label, found) == found for label, found in datasets.items()):
                labels.update(datasets)
                questions.append(variant)
                break
        else:
            variant = f"{question}-{len(variants)}" if variants else question
            variants.append((variant, datasets))
            questions.append(variant)
    return questions


def _digest(value: object) -> str:
    """Return a digest of any values of a YAML file, in whatever order their keys are."""
    return digest(_text(value))


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(sorted(f'{key}: {_text(item)}' for key, item in value.items()))}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]"
    return repr(value)
