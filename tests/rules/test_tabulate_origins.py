"""One table of where results come from, and the sentences that say what differs."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from petct.errors import PetctError
from petct.manifests import read_json, write_json
from petct.metrics import read_table
from petct.provenance import save_origin
from petct.report_sentences import tell_origins
from tabulate_origins import COLUMNS, tabulate_origins

SCRIPT = Path(__file__).parents[2] / "src" / "tabulate_origins.py"
CPU = {"system": "Linux x86_64", "processor": "Some CPU", "logical_cores": 4}
ON_CPU = "Some CPU, 4 logical cores, Linux x86_64"


def write_model(results: Path, fold: int, **changes: Any) -> Path:
    """A model of one fold, with what ``changes`` of its origin."""
    origin = {
        "script": "train_network",
        "code": "aaaa",
        "settings": {"seed": 1},
        "data": {"../train.tsv": "0" * 64},
        "versions": {"Python": "3.11.7", "torch": "2.13.0"},
        "hardware": CPU,
    }
    path = results / f"train_network/one_step/unet/all/fold-{fold}/model.json"
    write_json(path, {"studies": {"s1": "x", "s2": "y"}, "origin": origin | changes})
    return path


def write_tables(results: Path, **changes: Any) -> list[Path]:
    """metrics.tsv, made from two score tables, and comparison.tsv, made from it.

    Returns comparison's origin, from which the others follow. All are of the same hardware.
    """
    scores = [results / f"score_predictions/one_step/unet/all/fold-{n}.tsv" for n in (0, 1)]
    metrics, comparison = results / "tables/metrics.tsv", results / "tables/comparison.tsv"
    chain: list[tuple[Path, str, list[Path]]] = [(path, "score_predictions", []) for path in scores]
    chain += [(metrics, "tabulate_metrics", scores), (comparison, "compare_experiments", [metrics])]
    for path, script, inputs in chain:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{path.name}\n")
        save_origin(path, script, "bbbb", None, inputs)
        origin = path.with_suffix(".origin.json")
        told = {"versions": {"Python": "3.11.7"}, "hardware": CPU}
        write_json(origin, read_json(origin) | told | changes)
    return [comparison.with_suffix(".origin.json")]


def tell(results: Path, models: list[Path], tables: list[Path]) -> list[str]:
    output = results / "tables/origins.tsv"
    tabulate_origins(models, tables, output)
    return tell_origins(read_table(output))


def test_a_row_per_model_and_table(tmp_path: Path) -> None:
    output = tmp_path / "tables/origins.tsv"
    tabulate_origins([write_model(tmp_path, 0)], write_tables(tmp_path), output)
    table = read_table(output)
    assert list(table.columns) == COLUMNS
    assert table["result"].tolist() == [
        "train_network/one_step/unet/all/fold-0/model.json",
        "score_predictions/one_step/unet/all/fold-0.tsv",
        "score_predictions/one_step/unet/all/fold-1.tsv",
        "tables/comparison.tsv",
        "tables/metrics.tsv",
    ]
    assert table["files"].tolist() == [1, 0, 0, 1, 2]
    assert table["studies"].tolist()[0] == 2 and table["studies"].isna().sum() == 4
    assert table["versions"].tolist()[:2] == ["Python 3.11.7, torch 2.13.0", "Python 3.11.7"]
    assert set(table["hardware"]) == {ON_CPU}
    before = output.read_bytes()
    tabulate_origins([write_model(tmp_path, 0)], write_tables(tmp_path), output)
    assert output.read_bytes() == before


def test_one_origin_is_one_sentence(tmp_path: Path) -> None:
    models = [write_model(tmp_path, fold) for fold in range(3)]
    assert tell(tmp_path, models, write_tables(tmp_path)) == [
        "3 models and 4 tables come from one code of each script and one set of package versions, "
        f"on one kind of hardware: {ON_CPU}."
    ]
    gpu = CPU | {"gpu": "GPU X", "driver": "550.1", "cuda": "12.4", "processes": 4}
    models = [write_model(tmp_path, fold, hardware=gpu) for fold in range(3)]
    (told,) = tell(tmp_path, models, write_tables(tmp_path))
    assert told.endswith(
        f"the models on 4 processes on GPU X, driver 550.1, CUDA 12.4; {ON_CPU}, "
        f"the tables on {ON_CPU}."
    )


def test_what_differs_is_named(tmp_path: Path) -> None:
    models = [write_model(tmp_path, fold) for fold in range(4)]
    models[3] = write_model(
        tmp_path,
        3,
        code="cccc",
        versions={"Python": "3.11.7", "torch": "2.12.0"},
        hardware=CPU | {"processor": "Other CPU"},
    )
    name = "`train_network/one_step/unet/all/fold-3/model.json`"
    assert tell(tmp_path, models, write_tables(tmp_path)) == [
        "4 models and 4 tables do not all come from the same code, package versions and hardware.",
        f"The code of train_network differs: aaaa for 3 results, but cccc for {name}.",
        f"The version of torch differs: 2.13.0 for 3 results, but 2.12.0 for {name}.",
        f"The hardware of the models differs: {ON_CPU} for 3 results, but "
        f"Other CPU, 4 logical cores, Linux x86_64 for {name}.",
    ]


def test_many_that_differ_are_counted(tmp_path: Path) -> None:
    old = {"Python": "3.10.1"}
    models = [write_model(tmp_path, fold, versions=old) for fold in range(4)]
    models += [write_model(tmp_path, fold) for fold in range(4, 9)]
    told = tell(tmp_path, models, write_tables(tmp_path))[1]
    assert told.startswith("The version of Python differs: 3.11.7 for 9 results, but 3.10.1 for `")
    assert told.endswith("fold-2/model.json` and 1 more.")


def test_a_table_of_another_table_is_refused(tmp_path: Path) -> None:
    tables = write_tables(tmp_path)
    metrics = tmp_path / "tables/metrics.tsv"
    metrics.write_text("other\n")
    save_origin(metrics, "tabulate_metrics", "bbbb", None, [])
    with pytest.raises(PetctError, match=r"comparison.tsv was made from .*metrics.tsv with SHA"):
        tabulate_origins([], tables, tmp_path / "tables/origins.tsv")


def test_a_model_without_an_origin_is_refused(tmp_path: Path) -> None:
    model = write_model(tmp_path, 0)
    write_json(model, {"studies": {}})
    with pytest.raises(PetctError, match=r"model\.json states no origin; remove it to train"):
        tabulate_origins([model], write_tables(tmp_path), tmp_path / "tables/origins.tsv")


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [
        *["tabulate_origins", "--models", write_model(tmp_path, 0)],
        *["--tables", *write_tables(tmp_path), "--output", tmp_path / "tables/origins.tsv"],
    ]
    monkeypatch.setattr(sys, "argv", [str(argument) for argument in arguments])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert len(read_table(tmp_path / "tables/origins.tsv")) == 5
