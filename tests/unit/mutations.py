"""Tiny studies with one to three faults each, and what must become of them.

`mutate_study` takes a study as bytes (dicom_studies wrote it, so every voxel is known), breaks it
by a seeded draw and says what is right: the study converts (to voxels that are still known),
is excluded for a reason that names the cause, or either of the two.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

from drafts import (
    CONVERTS,
    EITHER,
    EXCLUDED,
    Draft,
    Verdict,
    copy_study,
)
from folder_mutations import mutate_folder
from label_mutations import mutate_label
from slice_mutations import mutate_slices
from tag_mutations import mutate_tag


def mutate_study(
    templates: dict[str, Draft], number: int, negative: bool
) -> tuple[Draft, list[Verdict]]:
    """Study ``number`` with one to three faults, drawn with its number as the seed.

    ``negative``: what a study without a label is taken for; studies without one occur then alone.
    """
    rng = random.Random(number)
    kind = rng.choice(["seg", "rtstruct", "none"] if negative else ["seg", "rtstruct"])
    draft = copy_study(templates[kind], number, bare=rng.random() < 0.15)
    stages: list[Callable[[Draft, random.Random], Verdict]] = [
        lambda d, r: mutate_tag(d, r, "PET"),
        lambda d, r: mutate_tag(d, r, "CT"),
        lambda d, r: mutate_slices(d, r, "PET"),
        lambda d, r: mutate_slices(d, r, "CT"),
        mutate_label,
        mutate_folder,
    ]
    weights = [5, 3, 3, 2, 0 if kind == "none" else 3, 4]
    wanted = rng.choice([1, 1, 1, 2, 2, 3])
    chosen: set[int] = set()
    while len(chosen) < wanted:
        chosen |= set(rng.choices(range(len(stages)), weights))
    return draft, [stages[stage](draft, rng) for stage in sorted(chosen)]


def expected_outcome(verdicts: Sequence[Verdict]) -> tuple[str, str]:
    """What several faults come to, and the pattern that a reason must match."""
    outcomes = {verdict.outcome for verdict in verdicts}
    outcome = next(o for o in (EXCLUDED, EITHER, CONVERTS) if o in outcomes)
    return outcome, "|".join(v.reason for v in verdicts if v.outcome != CONVERTS)


def names_cause(pattern: str, reason: str, file: str) -> bool:
    return re.search(pattern, f"{reason} ({file})", re.IGNORECASE) is not None
