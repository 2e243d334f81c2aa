"""What a fuzzer has found: a broken invariant, where, and the case that shows it. One finding for each fault."""

import re
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Finding:
    """A broken invariant.

    Attributes:
        part: the fuzzer that found it.
        invariant: what does not hold, in a few words.
        place: what tells this fault from others: the code's line, or the command.
        case: the case in words, such that somebody can repeat it.
        detail: the last line of the traceback, or the output that is wrong.
        number: the case's number, by which the runner repeats it.
    """

    part: str
    invariant: str
    place: str
    case: str
    detail: str
    number: int = -1

    @property
    def fault(self) -> tuple[str, str, str]:
        """What findings of one fault have in common."""
        return self.part, self.invariant, self.place

    def text(self) -> str:
        """The finding in a few lines."""
        return f"{self.invariant}: {self.place}\n    case {self.number}: {self.case}\n    {self.detail}"


@dataclass
class Findings:
    """All findings of a run: of each fault the shortest case, and how often it was found."""

    found: dict[tuple[str, str, str], Finding] = field(default_factory=dict)
    times: dict[tuple[str, str, str], int] = field(default_factory=dict)

    def add(self, findings: Iterable[Finding]) -> list[Finding]:
        """Take findings; return those of faults that are new."""
        new = []
        for finding in findings:
            known = self.found.get(finding.fault)
            if known is None:
                new.append(finding)
            if known is None or len(finding.case) < len(known.case):
                self.found[finding.fault] = finding
            self.times[finding.fault] = self.times.get(finding.fault, 0) + 1
        return new

    def of(self, part: str) -> list[Finding]:
        """The findings of a part, the most frequent first."""
        mine = [finding for finding in self.found.values() if finding.part == part]
        return sorted(mine, key=lambda finding: -self.times[finding.fault])


def place_of(error: BaseException) -> str:
    """Return the line of our own code that an exception passed last, and the exception's kind."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if re.search(r"/(supersnn|supersnn_cli|tune|analysis)/[^-]*$", frame.filename)]
    if not frames:
        return type(error).__name__
    frame = (own or frames)[-1]
    where = re.sub(r"^.*/((?:supersnn|supersnn_cli|tune|analysis|tests)/)", r"\1", frame.filename)
    return f"{where}:{frame.name} {type(error).__name__}"


def last_line(error: BaseException) -> str:
    """Return the last line of an exception's traceback, cut to a readable length."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
