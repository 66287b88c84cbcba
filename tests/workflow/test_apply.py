"""A finished study's networks on new studies: what comes out, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest

from petct.image_files import load_volume
from petct.manifests import read_json
from workflow_runs import list_jobs, snakemake

CONFIG = "config/test.yaml"
RULES = [
    *["package_model", "unpack_package", "index_new_studies", "convert_new_study"],
    *["resample_new_study", "predict_studies", "describe_lesions", "export_study"],
    *["write_study_page", "write_study_list"],
]


@pytest.fixture(scope="module")
def study(finished_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of ``finished_study`` and, in ``new``, two of its studies and one without a PET."""
    folder = tmp_path_factory.mktemp("apply")
    unlocked = shutil.ignore_patterns("locks")
    shutil.copytree(finished_study, folder, ignore=unlocked, dirs_exist_ok=True)
    phantoms = folder / "run/results/test/make_phantom"
    for name in ("phantom-001", "phantom-003"):
        shutil.copytree(phantoms / name, folder / "new" / name)
    shutil.copytree(phantoms / "phantom-002/CT", folder / "new/phantom-002/CT")
    return folder


def apply(study: Path, run: Path, *arguments: str, **settings: str | None) -> tuple[int, str]:
    """Return code and what was printed."""
    pairs = [f"{key}={value}" for key, value in {"apply_to": study / "new", **settings}.items()]
    result = snakemake(
        study / "project", run, *arguments, "--configfile", str(study / "project" / CONFIG),
        "--config", *pairs, "--", "apply",
    )  # fmt: skip
    return result.returncode, result.stdout + result.stderr


@pytest.fixture(scope="module")
def applied(study: Path) -> Path:
    code, printed = apply(study, study / "run")
    assert code == 0, printed
    assert "2 of 3 studies done" in printed and "left out phantom-002_CT: no PT series" in printed
    # What is finished is not made again.
    assert not {job for job in list_jobs(printed) if job.startswith(("train", "score"))}
    code, printed = apply(study, study / "run")
    assert "Nothing to be done" in printed
    return study / "run/results/apply/new"


def test_every_study_has_a_result_or_a_reason(applied: Path) -> None:
    table = pd.read_csv(applied / "studies.tsv", sep="\t").set_index("study")
    assert table["status"].to_dict() == {
        "phantom-001": "described", "phantom-003": "described", "phantom-002_CT": "excluded",
    }  # fmt: skip
    # Networks of eight steps agree on nothing, and the other has its reason.
    assert table["look"].str.len().gt(0).all()
    assert (applied / "index.html").stat().st_size > 1000


def test_labels_are_not_read(applied: Path) -> None:
    """phantom-001 has lesions, of which its label tells."""
    told = read_json(applied / "convert_study/phantom-001/study.json")
    assert (told["positive"], told["label"]) == (False, None)
    assert not any("label" in warning for warning in told["warnings"])


def test_the_seg_is_the_mask(applied: Path) -> None:
    folder = applied / "export_study/phantom-001"
    mask, grid = load_volume(folder / "lesions.nii.gz")
    seg = pydicom.dcmread(folder / "lesions.dcm")
    found = np.zeros(mask.shape, np.uint8)
    for frame, group in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
        z = float(group.PlanePositionSequence[0].ImagePositionPatient[2])
        found[round((z - grid.origin_xyz_mm[2]) / grid.spacing_xyz_mm[2])] |= frame
    assert mask.any() and np.array_equal(found, mask)
    lesions = pd.read_csv(folder / "lesions.tsv", sep="\t")
    assert len(lesions) == len(seg.SegmentSequence)
    assert lesions["volume_ml"].sum() == pytest.approx(mask.sum() * grid.voxel_ml, rel=1e-4)


def test_a_package_needs_nothing_of_the_study(applied: Path, study: Path, tmp_path: Path) -> None:
    """In another folder, from the package alone: the same masks."""
    package = tmp_path / "package.zip"
    shutil.copy(study / "run/results/test/package_model/package.zip", package)
    run = tmp_path / "run"
    run.mkdir()
    code, printed = apply(study, run, apply=json.dumps({"package": str(package), "name": "there"}))
    assert code == 0, printed
    assert not (run / "results/test").exists()
    for name in ("phantom-001", "phantom-003"):
        here, there = (
            load_volume(folder / f"export_study/{name}/lesions.nii.gz")[0]
            for folder in (applied, run / "results/apply/there")
        )
        assert np.array_equal(here, there)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"apply": '{"segments": "one"}'}, "export_study .+|write_study_(page .+|list)"),
        (
            {"apply": '{"disagreement": 0.1}'},
            "(describe_lesions|export_study) .+|write_study_(page .+|list)",
        ),
        (
            {"package": '{"experiment": "one_step/unet_small/all"}'},
            "package_model|unpack_package|resample_new_study .+|predict_studies"
            "|(describe_lesions|export_study) .+|write_study_(page .+|list)",
        ),
    ],
)
def test_a_setting_reruns_what_hangs_on_it(
    applied: Path, study: Path, settings: dict[str, str], expected: str
) -> None:
    code, printed = apply(study, study / "run", "--dry-run", **settings)
    assert code == 0, printed
    planned = list_jobs(printed) - {"apply"}
    assert planned and all(re.fullmatch(expected, job) for job in planned), planned
    assert {job.split()[0] for job in planned} == {
        rule
        for rule in RULES
        if re.fullmatch(expected, f"{rule} x") or re.fullmatch(expected, rule)
    }


def test_wrong_inputs_are_told_in_a_line(study: Path, tmp_path: Path) -> None:
    code, printed = apply(study, tmp_path, apply_to="/not/there")
    assert code and "apply_to: /not/there is not a folder" in printed
    result = snakemake(
        study / "project", study / "run", "--configfile", str(study / "project" / CONFIG),
        "--", "apply",
    )  # fmt: skip
    assert result.returncode and "--config apply_to=/path/to/studies" in result.stderr
    (tmp_path / "broken.zip").write_bytes(b"PK nothing")
    code, printed = apply(
        study, tmp_path, apply=json.dumps({"package": str(tmp_path / "broken.zip")})
    )
    assert code and "broken.zip is not a whole zip archive" in printed
