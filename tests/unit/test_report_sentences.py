"""The report's sentences on runs whose answer is known, and where there is no answer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from petct.report_sentences import (
    Design,
    Finding,
    counted,
    describe_changes,
    describe_reading,
    enumerate_words,
    list_findings,
    multiple,
    signed,
    tell_exclusions,
)
from report_runs import Experiments, make_scores, make_studies, make_tables

DESIGN = Design(0.95, 0.8, ["oracle"], {"unet": "UNet", "other": "UNETR"}, synthetic=False)
FULL: Experiments = {
    ("two_step", "unet", "all"): (0.7, 5.0),
    ("one_step", "unet", "all"): (0.6, 5.0),
    ("one_step", "other", "all"): (0.4, 5.0),
    ("one_step", "unet", "positive"): (0.6, 40.0),
    ("oracle", "unet", "all"): (0.9, 0.0),
    ("threshold", "suv", "none"): (0.1, 900.0),
}


def answer(
    folder: Path, experiments: Experiments, positives: int, negatives: int, design: Design = DESIGN
) -> dict[str, str]:
    """The findings by question, as running text; no-break spaces are plain."""
    tables = make_tables(folder, make_scores(experiments, positives, negatives))
    findings = list_findings(tables, design)
    assert all(isinstance(finding, Finding) and finding.sentences for finding in findings)
    text = {f.question: " ".join(f.sentences).replace("\u00a0", " ") for f in findings}
    assert "nan" not in " ".join(text.values())
    return text


def test_words() -> None:
    assert [counted(n, "study") for n in (0, 1, 2)] == ["0 studies", "1 study", "2 studies"]
    assert counted(2, "lesion") == "2 lesions"
    assert enumerate_words(["a"]) == "a"
    assert enumerate_words(["a", "b", "c"], "or") == "a, b or c"
    assert [signed(v, 2) for v in (0.1, -0.1, 0.001, -0.001)] == ["+0.10", "−0.10", "0.00", "0.00"]


def test_changes_beyond_chance_come_first() -> None:
    rows = [
        {"metric": "dice", "difference": 0.02, "low": -0.01, "high": 0.05, "p_adjusted": 0.3,
         "studies": 9},
        {"metric": "negative_fp_volume_ml", "difference": -4.0, "low": -5.0, "high": -3.0,
         "p_adjusted": 0.01, "studies": 7},
    ]  # fmt: skip
    text = describe_changes(rows, DESIGN).replace("\u00a0", " ")
    assert text == (
        "lowers false volume on lesion-free studies by 4.0 mL (−5.0 to −3.0; p 0.010; n 7) and "
        "is not shown to change Dice (+0.02; −0.01 to 0.05; p 0.30; n 9)"
    )


def test_real_differences_are_found_and_the_upper_bound_is_not_best(tmp_path: Path) -> None:
    text = answer(tmp_path, FULL, 12, 12)
    best = text["Which experiment is best?"]
    assert best.startswith("`unet · two_step · all` ranks first: mean Dice 0.70 (95 % interval")
    assert "12 studies with lesions of 12 patients" in best
    assert "Next is `unet · one_step · " in best and "with 0.60, 0.10 lower" in best
    assert "The best fixed threshold is `suv` with 0.10, 0.60 lower" in best
    assert "not beyond chance" not in best
    # One of two lesions in each of 12 studies; any prediction on a negative is a false alarm.
    assert "It finds 12 of 24 lesions and raises a false alarm in 12 of 12 studies" in best
    assert "`unet · oracle · all` looks at the reference" in best
    assert best.endswith("mean Dice 0.90 (n 12).")
    assert "Of 3 other networks, 3 are worse" in text["Is the order beyond chance?"]
    assert "100 % of the draws" in text["Is the order beyond chance?"]
    steps = text["One step or two?"]
    assert steps.startswith("`two_step` instead of `one_step` raises Dice by 0.10 (")
    assert "is not shown to change false volume" in steps
    cohorts = text["Train without lesion-free studies?"]
    assert "raises false volume on lesion-free studies by 35.0 mL (" in cohorts
    assert "is not shown to change Dice (0.00" in cohorts
    models = text["Which architecture?"]
    assert "UNet 0.70 (`unet · two_step · all`; n 12) and UNETR 0.40" in models
    assert "1 of 1 pair of models differs" in models
    assert "`unet` is ahead of `other` by 0.20 (p" in models
    limits = text["What may not be concluded?"]
    assert limits.startswith(
        "There are 12 patients with lesions and 12 patients with a lesion-free"
    )
    assert "phantoms" not in limits


def test_equal_experiments_are_not_called_different(tmp_path: Path) -> None:
    experiments: Experiments = {("one_step", name, "all"): (0.5, 2.0) for name in ("unet", "other")}
    text = answer(tmp_path, experiments, 8, 3)
    assert "less than 0.01 lower" in text["Which experiment is best?"]
    assert "not beyond chance" in text["Which experiment is best?"]
    assert "Of 1 other network, 0 are worse" in text["Is the order beyond chance?"]
    assert "Not shown to differ from the first: `" in text["Is the order beyond chance?"]
    assert "0 of 1 pair of models differ" in text["Which architecture?"]
    assert text["One step or two?"].startswith("Not asked:")
    assert text["Train without lesion-free studies?"].startswith("Not asked:")


def test_few_patients_cannot_show_any_difference(tmp_path: Path) -> None:
    experiments: Experiments = {
        ("one_step", "unet", "all"): (0.9, 2.0), ("one_step", "other", "all"): (0.1, 2.0)
    }  # fmt: skip
    text = answer(tmp_path, experiments, 3, 0)
    # Three patients: all signs alike has probability 2 / 2^3.
    assert (
        "no p for Dice can fall below 0.25 before and 0.25 after correction over 1 pair"
        in (text["What may not be concluded?"])
    )
    assert "no pair could have been shown to differ" in text["What may not be concluded?"]
    assert "no study is free of lesions" in text["Which experiment is best?"]


@pytest.mark.parametrize(
    ("positives", "negatives", "expected"),
    [
        (5, 2, "is the only experiment: mean Dice 0.70 (95 % interval"),
        (1, 0, "is the only experiment: mean Dice 0.68 (no interval from one patient; 1 study"),
        (0, 3, "`unet · one_step · all` marks the least: 5.0 mL per study (n 3)."),
    ],
)
def test_a_single_experiment(tmp_path: Path, positives: int, negatives: int, expected: str) -> None:
    text = answer(tmp_path, {("one_step", "unet", "all"): (0.7, 5.0)}, positives, negatives)
    assert expected in text["Which experiment is best?"]
    assert text["Is the order beyond chance?"].startswith("Not asked:")


@pytest.mark.parametrize(("positives", "negatives"), [(0, 4), (4, 0), (1, 0), (0, 1), (1, 1)])
def test_every_question_has_an_answer_when_one_side_is_missing(
    tmp_path: Path, positives: int, negatives: int
) -> None:
    text = answer(tmp_path, FULL, positives, negatives)
    cohorts = text["Train without lesion-free studies?"]
    assert ("what it costs there is not known" in cohorts) == (negatives == 0)
    assert ("what it gains there is not known" in cohorts) == (positives == 0)
    if positives == 0:
        assert "Dice does not exist" in text["Which experiment is best?"]


def test_a_threshold_may_win(tmp_path: Path) -> None:
    experiments: Experiments = {
        ("one_step", "unet", "all"): (0.3, 2.0), ("threshold", "suv", "none"): (0.6, 9.0)
    }  # fmt: skip
    text = answer(tmp_path, experiments, 6, 2)
    assert text["Which experiment is best?"].startswith(
        "No network beats a fixed threshold: `suv` ranks first"
    )


def test_missing_studies_and_phantoms_are_told(tmp_path: Path) -> None:
    scores = make_scores(FULL, 6, 2)
    own = (scores["model"] == "other") & (scores["study"] == "positive-00")
    tables = make_tables(tmp_path, scores[~own])
    design = Design(0.95, 0.8, ["oracle"], DESIGN.networks, synthetic=True)
    findings = list_findings(tables, design)
    assert "Not every experiment was scored on the same studies" in findings[0].sentences[-1]
    assert findings[-1].sentences[-1].startswith("The studies are phantoms")


def test_a_table_without_the_best_pair_says_so(tmp_path: Path) -> None:
    tables = make_tables(tmp_path, make_scores(FULL, 6, 2))
    nothing = tables["differences"].iloc[:0]
    findings = list_findings({**tables, "differences": nothing}, DESIGN)
    assert "the two were not compared study by study" in findings[0].sentences[1]
    assert findings[1].sentences == [
        "Not known: only the experiment that ranks first is compared with all."
    ]


def read_as(number: int, **columns: Any) -> pd.DataFrame:
    """``number`` studies of studies.tsv, without warnings but for what ``columns`` say."""
    studies = make_studies(make_scores({("one_step", "unet", "all"): (0.6, 0.0)}, number, 0))
    return studies.assign(**{"warnings": "", **columns})


def test_formats_units_and_warnings_have_denominators() -> None:
    studies = read_as(
        4,
        format=["nifti", "dicom", "idc", "dicom"],
        units=["GML", "CNTS", "BQML", "BQML"],
        warnings=["", "no label; odd", "", "odd"],
    )
    assert describe_reading(studies, None) == [
        "4 studies came, 2 as DICOM (units of the PET: BQML 1, CNTS 1), 1 as DICOM from the "
        "Imaging Data Commons (units of the PET: BQML 1) and 1 as NIfTI, in SUV.",
        "AutoPET's own conversion would have given the same SUVs within 1 % in all 3 studies in "
        "which it can be worked out.",
        "2 of 4 studies carry warnings.",
    ]
    assert (
        describe_reading(read_as(1, warnings="odd"), None)[-1] == "1 of 1 study carries warnings."
    )
    assert describe_reading(read_as(1), None)[0] == (
        "The one study came as DICOM (units of the PET: BQML 1)."
    )
    nifti = read_as(3, format="nifti", autopet_ratio_low=math.nan, autopet_ratio_high=math.nan)
    assert describe_reading(nifti, None) == [
        "All 3 studies came as NIfTI, in SUV.", "No study carries a warning."
    ]  # fmt: skip
    assert describe_reading(read_as(1), None)[-1] == "No study carries a warning."


def test_a_downloaded_collection_is_cited() -> None:
    source = {
        "source": "Imaging Data Commons",
        "collection": "tiny_lesions",
        "index": "idc-index-data 25",
        "licences": ["CC BY 4.0"],
        "dois": ["10.1/a", "10.1/b"],
    }
    assert describe_reading(read_as(1), source)[0] == (
        "From the Imaging Data Commons, collection tiny_lesions (idc-index-data 25); licence "
        "CC BY 4.0; cite doi:10.1/a and doi:10.1/b."
    )


def conversion(
    *ratios: tuple[float, float], mode: str = "dicom", form: str = "dicom", notes: str = ""
) -> list[str]:
    """The sentences between the formats and the warnings; ``notes`` by study, parted by "|"."""
    low, high = ([ratio[side] for ratio in ratios] for side in (0, 1))
    studies = read_as(
        len(ratios), autopet_ratio_low=low, autopet_ratio_high=high, suv_mode=mode, format=form
    )
    if notes:
        studies["autopet_note"] = notes.split("|")
    return describe_reading(studies, None)[1:-1]


UNKNOWN = (math.nan, math.nan)


def test_the_distance_to_the_challenges_conversion() -> None:
    # 0.99 is 1 % off and no more.
    assert conversion((0.62, 0.7), (0.99, 1.01), (1.0, 1.0)) == [
        "AutoPET's own conversion would have given between 0.62 and 1.01 times these SUVs; 1 of 3 "
        "studies differ by more than 1 %."
    ]
    # From 1.00 to 1.02 it hangs on the slice.
    assert conversion((1.3, 1.4), (1.0, 1.02), (0.9, 1.2)) == [
        "AutoPET's own conversion would have given between 0.90 and 1.40 times these SUVs; 3 of 3 "
        "studies differ by more than 1 % by some slice's time, 1 whichever slice it reads."
    ]
    assert conversion((0.62, 0.7), (1.0, 1.0), mode="autopet") == [
        "These SUVs come from AutoPET's own conversion, which gives between 0.62 and 1.00 times "
        "those by the standard; 1 of 2 studies differ by more than 1 %."
    ]
    assert conversion((1.0, 1.005)) == [
        "AutoPET's own conversion would have given the same SUVs within 1 % in the one study in "
        "which it can be worked out."
    ]


def test_where_the_distance_cannot_be_worked_out() -> None:
    assert conversion((1.0, 1.0), (1.0, 1.0), UNKNOWN, notes="||no time") == [
        "AutoPET's own conversion would have given the same SUVs within 1 % in all 2 studies in "
        "which it can be worked out. It cannot be worked out for 1 study (no time)."
    ]
    words = "What AutoPET's own conversion to SUV would have given cannot be worked out for"
    assert conversion(UNKNOWN, UNKNOWN) == [f"{words} 2 studies."]
    assert conversion(UNKNOWN, UNKNOWN, UNKNOWN, notes="a|b|a") == [f"{words} 3 studies (a; b)."]
    # A list of reasons is for the table.
    assert conversion(UNKNOWN, UNKNOWN, UNKNOWN, notes="a|b|c") == [f"{words} 3 studies."]
    # SUVs that came ready.
    assert conversion(UNKNOWN, form="nifti", notes="it is NIfTI") == []


def test_a_multiple_shows_what_matters() -> None:
    assert [multiple(ratio) for ratio in (0.6249, 1.0, 12.34, 0.0421, 4.2e-6, 9.996)] == [
        "0.62", "1.00", "12.3", "0.0421", "4.2e-06", "10"
    ]  # fmt: skip


def test_exclusions_have_a_denominator() -> None:
    excluded = pd.DataFrame({"study": ["a", "b", "", ""]})
    assert tell_exclusions(excluded, 7) == (
        "2 of 9 studies found were left out. 2 more entries tell of files that belong to no study."
    )
    assert tell_exclusions(excluded[:1], 2) == "1 of 3 studies found was left out."
    assert tell_exclusions(excluded[2:3], 1) == (
        "Every study that was found was used. 1 more entry tells of files that belong to no study."
    )
    assert tell_exclusions(excluded[:0], 7) == "None: every study that was found was used."
