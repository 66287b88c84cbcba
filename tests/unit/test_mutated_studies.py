"""Hundreds of broken studies: each is converted right or excluded for its cause, none is lost."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shutil
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

import dicom_studies as tiny
from convert_study import convert_study
from drafts import CONVERTS, EXCLUDED, Draft, Verdict, copy_study, read_templates
from index_studies import index_studies
from mutations import expected_outcome, mutate_study, names_cause

STUDIES = int(os.environ.get("PETCT_MUTATED_STUDIES", "250"))
PER_FOLDER = 20
MOST_SECONDS = 10.0  # for one study; a tiny one takes 0.1
UNTOUCHED = Verdict("none", CONVERTS)


@dataclass(frozen=True)
class Outcome:
    """What became of one study: ``reason`` and ``file`` where it was excluded."""

    status: str
    reason: str
    file: str
    folder: Path


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in what runs longer."""

    def stop(signum: int, frame: object) -> None:
        raise TimeoutError(f"it runs longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def process(root: Path, work: Path, missing_label: str, count: int) -> dict[str, list[Outcome]]:
    """Index and convert what lies below ``root``; the outcomes by name of the first folder."""
    settings = tiny.READING | {"missing_label": missing_label}
    outcomes: dict[str, list[Outcome]] = defaultdict(list)
    try:
        with at_most(MOST_SECONDS * count):
            index_studies(root, settings, work / "index")
    except Exception as error:  # a crash of the index is one of all its studies
        crashed = Outcome("crashed", f"index: {type(error).__name__}: {error}", "", Path())
        return defaultdict(lambda: [crashed])
    with (work / "index/excluded.tsv").open(newline="") as table:
        for row in csv.DictReader(table, delimiter="\t"):
            name = next(iter(Path(row["file"]).relative_to(root).parts), "")
            outcomes[name].append(Outcome("excluded", row["reason"], row["file"], Path()))
    for entry in sorted((work / "index/studies").iterdir()):
        study = json.loads(entry.read_text())
        name = Path(study["folder"]).relative_to(root).parts[0]
        folder = work / "studies" / entry.stem
        started = time.monotonic()
        try:
            with at_most(MOST_SECONDS):
                convert_study(entry, settings, folder / "study.json")
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            outcomes[name].append(Outcome("crashed", reason, str(entry), folder))
            continue
        assert time.monotonic() - started < MOST_SECONDS
        told = json.loads((folder / "study.json").read_text())
        outcomes[name].append(
            Outcome(told["status"], told.get("reason", ""), told.get("file", ""), folder)
        )
    return outcomes


def problems_of(draft: Draft, verdicts: list[Verdict], outcomes: list[Outcome]) -> list[str]:
    """What is wrong with the outcomes of a mutated study; empty if nothing is."""
    expected, pattern = expected_outcome(verdicts)
    converted = [outcome for outcome in outcomes if outcome.status == "converted"]
    excluded = [outcome for outcome in outcomes if outcome.status == "excluded"]
    found = [f"crashed: {o.reason}" for o in outcomes if o.status == "crashed"]
    if not outcomes:
        found.append("neither converted nor excluded: lost")
    if len(converted) > 1:
        found.append(f"{len(converted)} studies came of it")
    found += [f"no reason or file: {o}" for o in excluded if not o.reason or not o.file]
    if expected == EXCLUDED and converted:
        found.append("converted, expected an exclusion")
    if expected == CONVERTS and not converted:
        found.append("excluded, expected a conversion")
    if (
        expected != CONVERTS
        and excluded
        and not converted
        and not any(names_cause(pattern, outcome.reason, outcome.file) for outcome in excluded)
    ):
        found.append(f"no reason matches {pattern!r}")
    for outcome in converted:
        found += wrong_voxels(draft, outcome.folder)
    return found


def wrong_voxels(draft: Draft, folder: Path) -> list[str]:
    found = []
    arrays = {
        name: sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{name}.nii.gz")))
        for name in ("suv", "ct", "lesions")
    }
    if "suv" not in draft.unknown and not (
        draft.suv.shape == arrays["suv"].shape
        and np.allclose(arrays["suv"], draft.suv, rtol=1e-5, atol=1e-6)
    ):
        found.append("other SUVs")
    if "lesions" not in draft.unknown and not np.array_equal(arrays["lesions"], draft.lesions):
        found.append(f"another lesion: {int(arrays['lesions'].sum())} voxels")
    if "ct" not in draft.unknown:
        share = json.loads((folder / "study.json").read_text())["ct"]["covers_pet_share"]
        outside = arrays["ct"] == -1024
        if abs(1 - outside.mean() - share) > 1e-6:
            found.append("the covered share is not the CT's")
        if np.abs(arrays["ct"] - draft.hounsfield)[~outside].max(initial=0) > 1.01:
            found.append("other CT numbers")
    return found


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Draft]:
    return read_templates(tmp_path_factory.mktemp("templates"))


def test_untouched_studies_convert(tmp_path: Path, templates: dict[str, Draft]) -> None:
    drafts = {}
    for number, kind in enumerate(["seg", "rtstruct", "none"] * 2):
        drafts[f"s{number}"] = copy_study(templates[kind], number, bare=number > 2)
        drafts[f"s{number}"].write(tmp_path / "in" / f"s{number}")
    outcomes = process(tmp_path / "in", tmp_path / "work", "negative", len(drafts))
    for name, draft in drafts.items():
        assert not problems_of(draft, [UNTOUCHED], outcomes[name])


def test_mutated_studies(tmp_path: Path, templates: dict[str, Draft]) -> None:
    wrong: list[str] = []
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    started = time.monotonic()
    for first in range(0, STUDIES, PER_FOLDER):
        negative = first // PER_FOLDER % 2 == 1
        root, work = tmp_path / f"in{first}", tmp_path / f"work{first}"
        drafts = {}
        for number in range(first, min(first + PER_FOLDER, STUDIES)):
            drafts[f"s{number:04d}"] = mutate_study(templates, number, negative)
        drafts["untouched"] = copy_study(templates["seg"], 9_999, bare=False), [UNTOUCHED]
        for name, (draft, _) in drafts.items():
            draft.write(root / name)
        with contextlib.redirect_stdout(io.StringIO()):
            outcomes = process(root, work, "negative" if negative else "exclude", len(drafts))
        for name, (draft, verdicts) in drafts.items():
            problems = problems_of(draft, verdicts, outcomes[name])
            reasons = "; ".join(f"{o.reason} ({o.file})" for o in outcomes[name])
            told = ", ".join(f"{v.kind} -> {v.outcome} ({v.detail})" for v in verdicts)
            wrong += [f"{name}: {p} | {told} | {draft.label_kind} | {reasons}" for p in problems]
            converted = any(o.status == "converted" for o in outcomes[name])
            for kind in {verdict.kind for verdict in verdicts} | {"all"}:
                kinds[kind]["converted" if converted else "excluded"] += name != "untouched"
        # Two studies with the same wrong UID make a third, which has no folder of its own.
        assert set(outcomes) <= set(drafts) | {""}, set(outcomes) - set(drafts)
        shutil.rmtree(root)
        shutil.rmtree(work)
    print(f"\n{STUDIES} mutated studies in {time.monotonic() - started:.0f} s")
    for kind, counted in sorted(kinds.items()):
        print(f"  {kind}: {counted['converted']} converted, {counted['excluded']} excluded")
    assert not wrong, f"{len(wrong)} problems:\n" + "\n".join(wrong)
