"""The real workflow from a collection's index over downloads to converted studies."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
import yaml

import dicom_studies as tiny
from object_store import Store, index_row, open_store, write_index

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
DETECTED = "Segmentation - Tumor lesions detected"
NONE_DETECTED = "Segmentation - No tumor lesions detected"


class Collection(NamedTuple):
    """A collection of three studies in a store; ``folder`` is where the workflow runs."""

    repo: Path
    store: Store
    folder: Path
    overlay: Path

    @property
    def results(self) -> Path:
        return self.folder / "results/tiny"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(self.repo / "Snakefile")]
        command += ["--directory", str(self.folder), "--cores", "2", "--resources", "download=2"]
        command += ["--configfile", str(self.overlay), "--until", "select_cohort"]
        return subprocess.run(
            [*command, *arguments], capture_output=True, text=True, env=ENVIRONMENT, check=False
        )

    def converted(self, *arguments: str) -> dict[str, dict[str, Any]]:
        """Run, and return each study's study.json."""
        result = self.run(*arguments)
        assert result.returncode == 0, result.stdout + result.stderr
        manifests = (self.results / "convert_study").glob("*/study.json")
        return {path.parent.name: json.loads(path.read_text()) for path in manifests}

    def set_download(self, **values: Any) -> None:
        settings = yaml.safe_load(self.overlay.read_text())
        settings["download"] |= values
        self.overlay.write_text(yaml.safe_dump(settings))

    def downloads(self) -> list[str]:
        """What lies below download_study/, one level into each study, beside the lock."""
        root = self.results / "download_study"
        found = (str(path.relative_to(root)) for path in root.glob("*/*"))
        return sorted(path for path in found if not path.endswith("/lock"))


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, so that an edit made while the tests run reruns nothing."""
    copy = tmp_path_factory.mktemp("repo")
    shutil.copy(ROOT / "Snakefile", copy / "Snakefile")
    for name in ("rules", "src", "config", "envs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture
def collection(tmp_path: Path, repo: Path) -> Iterator[Collection]:
    with open_store() as store:
        rows = []
        for patient, said in (("P1", DETECTED), ("P2", NONE_DETECTED), ("P3", "")):
            study = tiny.write_study(tmp_path / "source" / patient, patient=patient)
            assert study.label
            uid = str(tiny.pydicom.dcmread(study.pet[0]).StudyInstanceUID)
            for modality, files in (("PT", study.pet), ("CT", study.ct), ("SEG", [study.label])):
                series = store.add_series(f"{patient}-{modality.lower()}", files)
                description = said if modality == "SEG" else ""
                rows.append(index_row(patient, uid, modality, series, description))
        index = write_index(tmp_path / "index.parquet", rows)
        overlay = tmp_path / "tiny.yaml"
        settings = {"dataset": "tiny", "source": "idc", "collection": "tiny_lesions"}
        download = {"index": str(index), "endpoint": store.url}
        overlay.write_text(yaml.safe_dump(settings | {"download": download}))
        yield Collection(repo, store, tmp_path / "run", overlay)


FILES = 6 + 12 + 1  # of one study


def test_a_collection_is_listed_downloaded_and_converted(collection: Collection) -> None:
    studies = collection.converted()
    assert sorted(manifest["patient"] for manifest in studies.values()) == ["P1", "P2", "P3"]
    for name, manifest in studies.items():
        assert (manifest["study"], manifest["status"]) == (name, "converted")
        assert manifest["suv_max"] == pytest.approx(tiny.SUV.max())
        assert manifest["lesion_voxels"] == 18
    warned = {manifest["patient"]: manifest["warnings"] for manifest in studies.values()}
    assert warned == {
        "P1": [],
        "P2": ["the collection states no lesions, the label has 18 voxels"],
        "P3": [],
    }
    names = [f"{study}/{name}" for study in studies for name in ("dicom", "download.json")]
    assert collection.downloads() == sorted(names)
    index = collection.results / "index_studies"
    assert pd.read_csv(index / "studies.tsv", sep="\t")["study"].tolist() == sorted(studies)
    assert json.loads((index / "source.json").read_text())["dois"] == ["10.1234/tiny"]

    # A second run fetches and converts nothing, whatever is set that changes no result.
    collection.store.fetched.clear()
    before = {path: path.stat().st_mtime_ns for path in collection.results.rglob("study.json")}
    collection.set_download(endpoint="http://127.0.0.1:9", keep_dicom=False)
    collection.converted()
    collection.set_download(studies=2)
    collection.run()  # as far as two patients go, who may be of one fold
    assert len(list((index / "studies").glob("*.json"))) == 2
    assert collection.store.fetched == []
    after = {path: path.stat().st_mtime_ns for path in collection.results.rglob("study.json")}
    assert after == before


def test_dicom_that_is_not_kept_is_fetched_again_when_needed(collection: Collection) -> None:
    collection.set_download(keep_dicom=False)
    first = collection.converted()
    assert {manifest["status"] for manifest in first.values()} == {"converted"}
    assert collection.downloads() == []
    assert len(collection.store.fetched) == 3 * FILES

    collection.store.fetched.clear()
    assert collection.converted() == first
    assert collection.store.fetched == []

    # Another way to convert needs the DICOM once more.
    settings = yaml.safe_load(collection.overlay.read_text())
    collection.overlay.write_text(yaml.safe_dump(settings | {"reading": {"also": ["BSA"]}}))
    collection.converted()
    assert len(collection.store.fetched) == 3 * FILES
    assert collection.downloads() == []


def test_a_failed_download_is_resumed_by_the_next_run(collection: Collection) -> None:
    collection.store.cut["P1-ct/005.dcm"] = 200
    result = collection.run("--keep-going")
    assert result.returncode != 0
    (log,) = [
        path
        for path in (collection.results / "logs/download_study").iterdir()
        if "error:" in path.read_text()
    ]
    assert log.name.startswith("P1_")
    message = log.read_text()
    assert message.startswith("error: s3://bucket/P1-ct/* could not be downloaded: ")
    assert "Traceback" not in message
    # The other studies went on; of this one the whole files wait.
    done = (collection.results / "convert_study").glob("*/study.json")
    assert sorted(path.parent.name[:3] for path in done) == ["P2_", "P3_"]
    partial = f"{log.stem}/partial"
    assert [name for name in collection.downloads() if name.startswith("P1")] == [partial]

    collection.store.cut.clear()
    collection.store.fetched.clear()
    assert len(collection.converted()) == 3
    missing = {"P1-ct/005.dcm", *(f"P1-pt/{n:03d}.dcm" for n in range(6)), "P1-seg/000.dcm"}
    assert set(collection.store.fetched) == missing


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        ({"collection": None}, "collection: source is idc, so give it: --config collection="),
        ({"download": {"list": "/not/there"}}, "download.list: /not/there is not a file"),
        ({"download": {"endpoint": "here"}}, "download.endpoint: 'here' does not match"),
    ],
)
def test_wrong_requests_stop_before_any_job(
    collection: Collection, overlay: dict[str, Any], message: str
) -> None:
    download = overlay.get("download", {})
    collection.set_download(**download)
    if not download:
        settings = yaml.safe_load(collection.overlay.read_text())
        collection.overlay.write_text(yaml.safe_dump(settings | overlay))
    result = collection.run()
    assert result.returncode != 0
    assert message in result.stderr
    assert not collection.results.exists()
