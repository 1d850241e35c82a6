"""``--fail-on``: conditions on a result under which ``score`` ends with exit code 3; with 5 where it cannot tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from memorization_index.errors import MemorizationIndexError
from memorization_index.verdicts import MatchClass

if TYPE_CHECKING:
    from memorization_index.scores import Scores

#: Classes of match, strongest first: a condition on one holds for the stronger ones too.
_CLASSES = ("exact", "copy", "altered copy", "same anatomy")
#: Verdicts, worst first.
_VERDICTS = ("copy", "suspicious")
EXPECTED = "exact, copy, 'altered copy', 'same anatomy', suspicious, p:NUMBER or q:NUMBER"


@dataclass(frozen=True)
class Gate:
    """One condition: a class of match or a verdict (``word``), or a volume's p or q at or below ``level``."""

    text: str
    word: str = ""
    level: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Gate:
        """Read a condition as it is typed.

        Raises :class:`MemorizationIndexError` where it is none.
        """
        name, colon, value = text.partition(":")
        if not colon and text in (*_CLASSES, *_VERDICTS):
            return cls(text, text)
        try:
            level = float(value)
        except ValueError:
            level = np.nan
        if name not in ("p", "q") or not 0 < level <= 1:
            raise MemorizationIndexError(
                f"--fail-on {text}: is no condition; expected {EXPECTED} (above 0, at most 1)."
            )
        return cls(text, name, level)

    def check(self, calibration: dict[str, Any]) -> None:
        """Refuse a condition that a reference can never meet: a gate that cannot close gives false assurance.

        ``calibration`` is the reference's. Raises :class:`MemorizationIndexError`.
        """
        if not self.level:
            return
        if not calibration["calibrated"]:
            raise MemorizationIndexError(
                f"--fail-on {self.text}: the reference has too few subjects for p and q; expected a class such as copy."
            )
        if self.level < calibration["smallest_volume_p"]:
            raise MemorizationIndexError(
                f"--fail-on {self.text}: this reference can give no volume a p below "
                f"{calibration['smallest_volume_p']:.4f}; expected at least that, or a class such as copy."
            )

    def cannot_tell(self, scores: Scores) -> list[str]:
        """The names of the volumes that do not meet a condition on matches, but have slices that were not compared."""
        if self.level:
            return []
        unverified = scores.slices["match_class"] == MatchClass.UNVERIFIED
        names = {str(name) for name in scores.slices["volume"][unverified]} - set(self.meets(scores))
        return [str(name) for name in scores.volumes["volume"] if str(name) in names]

    def meets(self, scores: Scores) -> list[str]:
        """The names of the volumes that meet the condition."""
        volumes, slices = scores.volumes, scores.slices
        if self.level:
            values = np.asarray(volumes["p_value" if self.word == "p" else "q_value"], float)
            met = values <= self.level  # NaN is not
        elif self.word in _VERDICTS:
            met = np.isin(volumes["verdict"], _VERDICTS[: _VERDICTS.index(self.word) + 1])
        else:
            strong = np.isin(slices["match_class"], _CLASSES[: _CLASSES.index(self.word) + 1])
            met = np.isin(volumes["volume"], np.unique(slices["volume"][strong]))
        return [str(name) for name in volumes["volume"][met]]
