"""Every new study has a row, whatever became of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from applied_studies import PACKAGE
from petct.manifests import write_json
from write_study_list import write_study_list

TEMPLATE = Path(__file__).parents[2] / "src/templates/study_list.html"


def test_every_study_has_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done: dict[str, Any] = {
        "patient": "P1", "status": "described", "lesions": 2, "mtv_ml": 30.25, "tlg": 1200.5,
        "suv_max": 9.0, "largest_distance_mm": 120.0, "probability": 0.9, "fold_dice": 0.8,
        "look": [], "warnings": ["a", "b"],
    }  # fmt: skip
    empty = {
        "lesions": 0, "mtv_ml": 0.0, "tlg": 0.0, "suv_max": None, "largest_distance_mm": None,
        "probability": None, "look": ["there is no CT"],
    }  # fmt: skip
    lost = {"patient": "P3", "status": "excluded", "reason": "the PET is empty"}
    for name, told in {"007": done, "b": done | empty, "c": lost}.items():
        write_json(tmp_path / f"described/{name}/study.json", {"study": name} | told)
    (tmp_path / "studies.tsv").write_text("study\n007\nb\nc\n")
    header = "study\tpatient\tstep\treason\tfile\n"
    (tmp_path / "excluded.tsv").write_text(header + "d\tP4\tindex_studies\tno CT\t/x/d\n")
    write_json(tmp_path / "package.json", PACKAGE)
    table, page = tmp_path / "out/studies.tsv", tmp_path / "out/index.html"
    write_study_list(
        tmp_path / "studies.tsv", tmp_path / "excluded.tsv", tmp_path / "package.json",
        tmp_path / "described", TEMPLATE, table, page,
    )  # fmt: skip
    rows = pd.read_csv(table, sep="\t", dtype={"study": str}).set_index("study")
    assert rows.index.tolist() == ["007", "b", "c", "d"]
    assert rows.loc["007", "warnings"] == "a; b" and rows.loc["b", "lesions"] == 0
    assert rows["status"].tolist() == ["described", "described", "excluded", "excluded"]
    assert rows.loc["d", "look"] == "no CT"
    text = page.read_text()
    assert "2 of 4 studies done; 1 of them should be looked at by a person" in text
    assert '<a href="write_study_page/007.html">007</a>' in text
    assert "it was left out: no CT" in text and "write_study_page/d.html" not in text
    printed = capsys.readouterr().out
    assert "2 of 4 studies done, lesions in 1; 1 should be looked at" in printed
    assert "left out d: no CT" in printed
