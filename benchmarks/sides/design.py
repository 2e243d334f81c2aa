"""What is compared at equal sides, how it is tuned, and the claim, which was fixed before any training.

The claim under test: features lead over relations at every equal side, 1, 2 and 4, by test accuracy on each data set.
Side 4 is the student's whole last map. A comparison holds where its p-value, adjusted (Holm) over all comparisons of
the table, is below 0.05 and its interval is above zero. The claim holds where all three sides do. The further
comparisons of `COMPARED` are held by the same rule, one by one. That two terms are equal at a side is not claimed, but
reported as the interval of their difference.

Relations at side `full` are no equal side: they relate the student's 4×4 maps to the teacher's own of 8×8 (7×7), so
that they have comparisons of their own. Features at side `full` are those at side 4.

Arms are tuned on validation images, with seeds that are used for nothing else, and the same number of trainings: an arm
with a teacher tries each rate of `RATES` with the middle weight, then the other two weights at the best rate; an arm
without one tries the five rates of `DIRECT_RATES`, from the lowest to the highest of the others. The control with
shuffled relations is tuned like the relations, at the side that was best by validation.

A training with seed s has teacher draw s mod 3, in all arms alike, so that pairs have the same teacher. An interval
covers the seeds of the student (its weights and its order of images), and these three draws as if each seed had its
own: it is too narrow where the draw matters much, for which the table has the difference by draw. It does not cover
other teachers' architectures, nor other training, validation or test images.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.trainings import TEACHERS, TUNED_BY, Run, Training, Values, best_of

SIDES = (1, 2, 4)
SEEDS, DRAWS = tuple(range(9)), 3
"""The seeds of the final trainings, and the number of teachers that they share evenly."""
RATES = (0.13, 0.4, 1.2)
DIRECT_RATES = (0.13, 0.23, 0.4, 0.7, 1.2)
"""The rates to try; an earlier comparison without a teacher found 0.4 and 0.8 best of 0.1 to 0.8."""
WEIGHTS = {"gram": (0.1, 0.5, 2.5), "feature": (1.0, 5.0, 25.0), "logit": (0.06, 0.3, 1.5)}
"""The weights to try: of `gram` at the relative scale, of the logit term per step."""
WEIGHT_KEYS = {"gram": "loss.relation.weight", "feature": "loss.feature.weight", "logit": "loss.logit.weight"}
TEACHER: Values = {"teacher.name": TEACHERS["homogeneous"], "teacher.epochs": 20}
LOGIT: Values = {"loss.logit.time": "per_step", "loss.logit.temperature": 3.0}

GRAMS = (*(f"gram-{side}" for side in SIDES), "gram-full")
FEATURES = tuple(f"feature-{side}" for side in SIDES)
SHUFFLED, BEST = "shuffled", "best"
"""The control, and what stands for the arm of relations that is best by validation."""
ARMS = ("direct", "direct-plain", *GRAMS, *FEATURES, "logit-per_step", SHUFFLED)
COMPARED = (
    *((f"feature-{side}", f"gram-{side}", f"features lead at side {side}") for side in SIDES),
    ("gram-4", "gram-1", "relations of whole maps lead over those of means"),
    ("gram-full", "gram-4", "relations of the teacher's larger maps lead over those of equal sides"),
    ("gram-full", "direct", "relations of the teacher's larger maps lead over no teacher"),
    (BEST, SHUFFLED, "what the relations say helps"),
    (BEST, "direct", "relations lead over no teacher"),
    (BEST, "direct-plain", "relations lead over no teacher and no augmentation"),
    ("logit-per_step", "direct", "logits per time step lead over no teacher"),
    ("direct", "direct-plain", "augmentation helps without a teacher"),
)
"""The comparisons: an arm, another one, and the sentence that holds where the first one leads."""
CLAIM = COMPARED[: len(SIDES)]


@dataclass(frozen=True)
class Grid:
    """What an arm always has, and what it tries: rates, and weights of its term; none without a teacher."""

    fixed: Values
    rates: tuple[float, ...]
    weight: str = ""
    weights: tuple[float, ...] = ()

    def first(self) -> list[Values]:
        """Return the values of each rate, with the middle weight."""
        middle = {self.weight: self.weights[len(self.weights) // 2]} if self.weights else {}
        return [{**self.fixed, "optimizer.lr": rate, **middle} for rate in self.rates]

    def then(self, best: Values) -> list[Values]:
        """Return the values of each weight at the best rate; the best values alone where there are no weights."""
        return [{**best, self.weight: weight} for weight in self.weights] or [best]

    def at_edge(self, values: Values) -> tuple[bool, bool]:
        """Return whether a rate and a weight are the first or the last that was tried."""
        ends = ((self.rates, "optimizer.lr"), (self.weights, self.weight))
        rate, weight = (bool(tried) and values[key] in (tried[0], tried[-1]) for tried, key in ends)
        return rate, weight


def grid(arm: str, best: str = "") -> Grid:
    """Return what an arm tries; the control's relations are those of the arm `best`."""
    if arm == SHUFFLED:
        own = grid(best)
        return Grid({**own.fixed, "loss.relation.shuffle": True}, own.rates, own.weight, own.weights)
    term, _, side = arm.partition("-")
    if term == "direct":
        return Grid({"dataset.augment.views": 1} if side == "plain" else {}, DIRECT_RATES)
    pool: int | str = int(side) if side.isdigit() else side
    fixed: Mapping[str, Values] = {
        "gram": {"loss.relation.kind": "gram", "loss.relation.scale": "relative", "loss.relation.pool": pool},
        "feature": {"loss.feature.pool": pool},
        "logit": LOGIT,
    }
    return Grid({**TEACHER, **fixed[term]}, RATES, WEIGHT_KEYS[term], WEIGHTS[term])


def compared(arms: Sequence[str], best: str) -> list[tuple[str, str, str]]:
    """Return those of `COMPARED` that are between some arms, each pair once."""
    named = [(best if ours == BEST else ours, theirs, sentence) for ours, theirs, sentence in COMPARED]
    pairs = {(ours, theirs): sentence for ours, theirs, sentence in reversed(named) if {ours, theirs} <= {*arms}}
    return [(ours, theirs, sentence) for (ours, theirs), sentence in reversed(pairs.items())]


class Comparison:
    """The trainings of some arms on one data set; `run` runs or looks up those that are asked for."""

    def __init__(self, data: str, sizes: Mapping[str, int], arms: Sequence[str], run: Run) -> None:
        self.data, self.sizes, self.arms, self._run = data, sizes, list(arms), run

    def trainings(self, arm: str, values: Values, seeds: Sequence[int], final: bool) -> list[Training]:
        """Return the trainings of an arm, each with its teacher's draw."""
        drawn = [{**values, "teacher.seed": seed % DRAWS} if "teacher.name" in values else values for seed in seeds]
        return [Training(self.data, arm, own, seed, final, self.sizes) for own, seed in zip(drawn, seeds, strict=True)]

    def taught(self) -> list[Training]:
        """Return a training with each teacher; none where no arm has one."""
        with_teacher = [arm for arm in self.arms if not arm.startswith("direct") and arm != SHUFFLED]
        return [
            training
            for arm in with_teacher[:1]
            for training in self.trainings(arm, grid(arm).first()[0], range(DRAWS), False)
        ]

    def tuned(self) -> tuple[dict[str, Values], str]:
        """Return the values of each arm, and the best arm of relations ("" without one), both by validation."""
        chosen, scores = dict[str, Values](), dict[str, float]()
        for arm in self.arms:
            if arm != SHUFFLED:
                chosen[arm], scores[arm] = self._tune(arm, grid(arm))
        best = max((arm for arm in chosen if arm in GRAMS), key=scores.__getitem__, default="")
        if SHUFFLED in self.arms:
            chosen[SHUFFLED], _ = self._tune(SHUFFLED, grid(SHUFFLED, best))
        return chosen, best

    def _tune(self, arm: str, tried: Grid) -> tuple[Values, float]:
        first, _ = self._best(arm, tried.first())
        return self._best(arm, tried.then(first))

    def _best(self, arm: str, options: Sequence[Values]) -> tuple[Values, float]:
        best, score = best_of(self._run, [self.trainings(arm, values, TUNED_BY, False) for values in options])
        return options[best], score

    def final(self, chosen: Mapping[str, Values], seeds: Sequence[int] = SEEDS) -> Iterator[dict[str, object]]:
        """Yield the results of each arm's final trainings: `arm`, `seed`, `teacher_draw`, `test`."""
        trainings = [one for arm, values in chosen.items() for one in self.trainings(arm, values, seeds, True)]
        for training, result in zip(trainings, self._run(trainings), strict=True):
            yield {
                "arm": training.arm,
                "seed": training.seed,
                "teacher_draw": training.seed % DRAWS,
                "test": result["test"],
            }


def require_arms(arms: Sequence[str]) -> None:
    """Check that the control has relations that it is the control of.

    Raises:
        SystemExit: it has none.
    """
    if SHUFFLED in arms and not set(arms) & set(GRAMS):
        raise SystemExit(f"--arms {SHUFFLED}: needs one of {', '.join(GRAMS)}, whose relations it shuffles")


def cost(arms: Sequence[str], seeds: Sequence[int] = SEEDS) -> dict[str, int]:
    """Return the number of trainings on a data set, by what they are for."""
    settings = {arm: grid(arm, GRAMS[0]) for arm in arms}
    tried = sum(len(one.rates) + max(0, len(one.weights) - 1) for one in settings.values())
    return {"tuning": len(TUNED_BY) * tried, "final": len(arms) * len(seeds)}
