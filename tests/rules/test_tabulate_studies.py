"""One row per used study: what the manifests say, and nothing of those that were left out."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from petct.manifests import write_json
from petct.metrics import read_table
from tabulate_studies import COLUMNS, tabulate_studies

SCRIPT = Path(__file__).parents[2] / "src" / "tabulate_studies.py"


def manifest(study: str, **changes: Any) -> dict[str, Any]:
    """study.json of a converted study, of what the table reads."""
    return {
        "study": study,
        "patient": "007",
        "status": "converted",
        "positive": True,
        "lesion_ml": 2.5,
        "suv_max": 12.0,
        "suv": {
            "units": "BQML",
            "explanation": "BQML, decay-corrected to\nseries start; weight 70.0 kg",
            "factor": 0.0005,
            "mode": "dicom",
            "autopet_ratio": [0.75, 1.0],
        },
        "pet": {"shape_zyx": [6, 8, 10], "spacing_xyz_mm": [4.0, 5.0, 3.25]},
        "ct": {"covers_pet_share": 0.5},
        "warnings": [],
    } | changes


def write(
    folder: Path, formats: dict[str, str], *manifests: dict[str, Any]
) -> tuple[Path, Path, Path]:
    """The index, and folders of convert_study and resample_study."""
    folder.mkdir(exist_ok=True)
    index = folder / "studies.tsv"
    rows = [f"{study}\tP\t{form}\t/x\tseg\n" for study, form in formats.items()]
    index.write_text("study\tpatient\tformat\tfolder\tlabel\n" + "".join(rows))
    for told in manifests:
        for step in ("convert", "resample"):
            status = {"status": "resampled"} if told["status"] == "converted" else {}
            path = folder / step / str(told["study"]) / "study.json"
            write_json(path, told | (status if step == "resample" else {}))
    return index, folder / "convert", folder / "resample"


def test_a_row_says_what_the_manifest_says(tmp_path: Path) -> None:
    warned = ["the CT covers 50.0 % of the PET grid; -1024 HU elsewhere", "no\tlabel"]
    inputs = write(
        tmp_path, {"b": "dicom", "001": "idc"}, manifest("b", warnings=warned), manifest("001")
    )
    output = tmp_path / "tables" / "studies.tsv"
    tabulate_studies(*inputs, output)
    first, second = output.read_text().splitlines()[1:]
    assert first.split("\t") == [
        *["001", "007", "idc", "True", "2.5", "12.0"],
        *["BQML", "dicom", "0.0005", "0.0005", "0.75", "1.0", ""],
        *["0.5", "6x8x10", "3.25x5x4", ""],
        "BQML, decay-corrected to series start; weight 70.0 kg",
    ]
    # "; " parts warnings and stands in none.
    assert second.split("\t")[COLUMNS.index("warnings")] == (
        "the CT covers 50.0 % of the PET grid, -1024 HU elsewhere; no label"
    )
    assert read_table(output)["study"].tolist() == ["001", "b"]


def test_slices_with_factors_of_their_own_have_two_ends(tmp_path: Path) -> None:
    suv = {"units": "CNTS", "explanation": "", "factor_range": [0.1, 0.2], "mode": "autopet"}
    output = tmp_path / "studies.tsv"
    tabulate_studies(*write(tmp_path / "in", {"a": "dicom"}, manifest("a", suv=suv)), output)
    row = read_table(output).iloc[0]
    assert (row["suv_factor_low"], row["suv_factor_high"], row["suv_mode"]) == (0.1, 0.2, "autopet")


def test_what_is_undefined_is_nan(tmp_path: Path) -> None:
    suv = {
        "units": "GML", "explanation": "", "factor": 1.0,
        "autopet_ratio": None, "autopet_note": "no time",
    }  # fmt: skip
    output = tmp_path / "studies.tsv"
    tabulate_studies(*write(tmp_path / "in", {"a": "nifti"}, manifest("a", suv=suv)), output)
    cells = dict(zip(COLUMNS, output.read_text().splitlines()[1].split("\t"), strict=True))
    assert (cells["autopet_ratio_low"], cells["autopet_ratio_high"]) == ("nan", "nan")
    assert (cells["autopet_note"], cells["suv_mode"]) == ("no time", "")


def test_other_suvs_asked_for_have_a_column(tmp_path: Path) -> None:
    suv = manifest("a")["suv"] | {"also": {"bsa": {"per_suvbw": 0.026, "explanation": "..."}}}
    output = tmp_path / "studies.tsv"
    tabulate_studies(
        *write(
            tmp_path / "in", {"a": "dicom", "b": "nifti"}, manifest("a", suv=suv), manifest("b")
        ),
        output,
    )
    table = read_table(output)
    assert table.columns.tolist() == [*COLUMNS, "bsa_per_suvbw"]
    assert table["bsa_per_suvbw"].tolist()[0] == 0.026
    assert table["bsa_per_suvbw"].isna().tolist() == [False, True]


def test_what_any_step_left_out_has_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    index, converted, resampled = write(
        tmp_path / "in",
        {"a": "dicom", "b": "dicom", "c": "dicom"},
        manifest("a"),
        # Left out while converting: nothing is known of its images.
        {"study": "b", "patient": "P", "status": "excluded", "step": "convert_study"},
        manifest("c"),
    )
    write_json(resampled / "c/study.json", manifest("c", status="excluded"))
    output = tmp_path / "studies.tsv"
    arguments = ["tabulate_studies", "--index", str(index), "--converted", str(converted)]
    arguments += ["--resampled", str(resampled), "--output", str(output), "--code", "c"]
    monkeypatch.setattr(sys, "argv", arguments)
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert read_table(output)["study"].tolist() == ["a"]
    assert capsys.readouterr().out == "1 of 3 studies are used, 0 of them with warnings\n"


def test_without_studies_there_is_a_header(tmp_path: Path) -> None:
    output = tmp_path / "studies.tsv"
    tabulate_studies(*write(tmp_path, {}), output)
    assert output.read_text() == "\t".join(COLUMNS) + "\n"
