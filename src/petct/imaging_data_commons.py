"""Studies of the National Cancer Institute's Imaging Data Commons, from its bundled index.

The package idc-index-data carries the whole index as one Parquet table with a row per series, so
that studies are listed without a network. Of its columns these are read: collection_id, PatientID,
StudyInstanceUID, SeriesInstanceUID, Modality, SeriesDescription, instanceCount, crdc_series_uuid,
series_aws_url, series_size_MB, license_short_name and source_DOI.

series_size_MB is in units of 10^6 bytes and states every byte: for all 4,833 series of the two
AutoPET collections in version 25 it is a whole and even number of bytes, as DICOM files are.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from petct.errors import PetctError
from petct.index_tables import write_index
from petct.manifests import write_json
from petct.study_index import Excluded, salt_of
from petct.study_keys import hashed_key

PACKAGE = "idc-index-data"
ROLES = {"PT": "pet", "CT": "ct", "SEG": "label"}  # by Modality
COLUMNS = [
    *["collection_id", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "Modality"],
    *["SeriesDescription", "instanceCount", "crdc_series_uuid", "series_aws_url"],
    *["series_size_MB", "license_short_name", "source_DOI"],
]
NAMED = 10  # how many unknown names an error lists


@dataclass(frozen=True)
class RemoteSeries:
    """One series as the index states it. ``url``: s3://bucket/folder/*; ``bytes`` of all files."""

    uid: str
    url: str
    files: int
    bytes: int


@dataclass(frozen=True)
class RemoteStudy:
    """A study to download. ``series`` by role: pet, ct and, unless it has none, label.

    ``lesions_stated``: what the label's description says, None if it says nothing of the kind.
    """

    study: str
    patient: str
    uid: str
    series: dict[str, RemoteSeries]
    lesions_stated: bool | None

    @property
    def bytes(self) -> int:
        return sum(series.bytes for series in self.series.values())


@dataclass(frozen=True)
class IncompleteStudy:
    """A study of the index that lacks a series, or has one too many."""

    study: str
    patient: str
    reason: str


def read_collection(collection: str, index: Path | None) -> pd.DataFrame:
    """The rows of a collection, one per series, in the order of patient, study and series.

    ``index``: a Parquet table with the columns above; None takes the bundled one.
    Raises PetctError if there is no such collection or table.
    """
    path = _bundled_index() if index is None else index
    try:
        table = pd.read_parquet(
            path, columns=COLUMNS, filters=[("collection_id", "==", collection)]
        )
        if table.empty:
            known = pd.read_parquet(path, columns=["collection_id"])["collection_id"].unique()
            raise PetctError(_unknown_collection(collection, sorted(map(str, known))))
    except (OSError, ValueError) as error:
        raise PetctError(
            f"index {path} cannot be read as a Parquet table of series ({type(error).__name__})"
        ) from error
    return table.sort_values(["PatientID", "StudyInstanceUID", "SeriesInstanceUID"])


def _bundled_index() -> Path:
    try:
        import idc_index_data
    except ImportError:
        raise PetctError(f"{PACKAGE} is not installed; it carries the index") from None
    path = idc_index_data.IDC_INDEX_PARQUET_FILEPATH
    if path is None:
        raise PetctError(f"{PACKAGE} is installed without its index")
    return path


def _unknown_collection(collection: str, known: Sequence[str]) -> str:
    wanted = re.sub(r"[^a-z0-9]+", "_", collection.lower())
    near = difflib.get_close_matches(wanted, known, n=4, cutoff=0.5)
    meant = f"; near it: {', '.join(near)}" if near else ""
    return f"collection {collection!r} is none of the {len(known)} of the index{meant}"


def choose_studies(
    table: pd.DataFrame,
    studies: int | None,
    patients: Collection[str],
    listed: Collection[str],
    seed: int,
) -> pd.DataFrame:
    """The rows of the studies that were asked for; all if nothing was.

    ``patients`` are PatientIDs, ``listed`` PatientIDs or StudyInstanceUIDs; together they say who
    may be taken. ``studies`` then takes whole patients, in an order that ``seed`` draws, until the
    next would make it more: a larger number takes the same patients and further ones.
    Raises PetctError for names that the collection lacks, and where ``studies`` takes nobody.
    """
    collection = table["collection_id"].iloc[0]
    unknown = sorted(set(patients) - set(table["PatientID"]))
    if unknown:
        raise PetctError(f"collection {collection} has no PatientID {_listing(unknown)}")
    unknown = sorted(set(listed) - set(table["PatientID"]) - set(table["StudyInstanceUID"]))
    if unknown:
        raise PetctError(
            f"collection {collection} has no PatientID or StudyInstanceUID {_listing(unknown)}"
        )
    if patients or listed:
        named = {*patients, *listed}
        table = table[table["PatientID"].isin(named) | table["StudyInstanceUID"].isin(named)]
    if studies is None:
        return table
    pairs = table[["PatientID", "StudyInstanceUID"]].drop_duplicates()
    count_of = Counter(str(patient) for patient in pairs["PatientID"])
    taken: list[str] = []
    total = 0
    for patient in sorted(count_of, key=lambda patient: _draw(seed, patient)):
        total += count_of[patient]
        if total > studies:
            break
        taken.append(patient)
    if not taken:
        raise PetctError(
            f"download.studies is {studies}, but the first patient drawn has {total}; patients are"
            " taken whole, so ask for as many, or take another seed"
        )
    return table[table["PatientID"].isin(taken)]


def _draw(seed: int, patient: str) -> str:
    return sha256(f"{seed}:{patient}".encode()).hexdigest()


def _listing(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def list_studies(
    table: pd.DataFrame, optional: Collection[str]
) -> tuple[list[RemoteStudy], list[IncompleteStudy]]:
    """Studies with one PT, one CT and one SEG series, by key; and those that have not, with why.

    ``optional``: Modalities that a study may lack. Series of other Modalities are left alone.
    """
    series_of: dict[str, list[Any]] = {}
    for row in table.itertuples():
        series_of.setdefault(str(row.StudyInstanceUID), []).append(row)
    keys = study_keys({uid: str(rows[0].PatientID) for uid, rows in series_of.items()})
    complete, incomplete = [], []
    for uid, rows in series_of.items():
        patient = str(rows[0].PatientID)
        found = Counter(row.Modality for row in rows)
        needed = {modality: found[modality] for modality in ROLES}
        if any(n != 1 and not (n == 0 and m in optional) for m, n in needed.items()):
            listed = ", ".join(f"{count} {modality}" for modality, count in needed.items())
            reason = f"the index lists {listed} series, expected one of each"
            incomplete.append(IncompleteStudy(keys[uid], patient, reason))
            continue
        chosen = {ROLES[row.Modality]: row for row in rows if row.Modality in ROLES}
        stated = _lesions_stated(chosen["label"].SeriesDescription) if "label" in chosen else None
        series = {role: _remote_series(row) for role, row in sorted(chosen.items())}
        complete.append(RemoteStudy(keys[uid], patient, uid, series, stated))
    return (
        sorted(complete, key=lambda study: study.study),
        sorted(incomplete, key=lambda study: study.study),
    )


def study_keys(patients: dict[str, str]) -> dict[str, str]:
    """A file-name-safe, unique key per StudyInstanceUID, from the PatientID and the UID's end."""
    keys = {
        uid: re.sub(r"[^A-Za-z0-9._-]", "-", f"{patient}_{uid[-8:].lstrip('.')}")
        for uid, patient in patients.items()
    }
    taken = Counter(keys.values())
    return {
        uid: key if taken[key] == 1 else f"{key}_{sha256(uid.encode()).hexdigest()[:8]}"
        for uid, key in keys.items()
    }


def _remote_series(row: Any) -> RemoteSeries:
    return RemoteSeries(
        uid=str(row.SeriesInstanceUID),
        url=str(row.series_aws_url),
        files=int(row.instanceCount),
        bytes=round(float(row.series_size_MB) * 1e6),
    )


def _lesions_stated(description: Any) -> bool | None:
    """What a label's description says: "No tumor lesions detected", or the same without No."""
    text = str(description).lower()
    if "lesions detected" not in text:
        return None
    return re.search(r"\bno\b", text) is None


def describe_source(
    table: pd.DataFrame, chosen: Sequence[RemoteStudy], index: Path | None
) -> dict[str, Any]:
    """What to cite and what will be downloaded, as plain values for source.json."""
    name = str(index) if index else PACKAGE
    if index is None:
        try:
            name = f"{PACKAGE} {version(PACKAGE)}"
        except PackageNotFoundError:  # a copy that was not installed by a package manager
            name = PACKAGE
    return {
        "source": "Imaging Data Commons",
        "collection": str(table["collection_id"].iloc[0]),
        "index": name,
        "licences": sorted(set(table["license_short_name"].dropna().astype(str))),
        "dois": sorted(set(table["source_DOI"].dropna().astype(str))),
        "studies": len(chosen),
        "patients": len({study.patient for study in chosen}),
        "files": sum(series.files for study in chosen for series in study.series.values()),
        "gigabytes": round(sum(study.bytes for study in chosen) / 1e9, 3),
    }


def index_collection(
    collection: str,
    download: dict[str, Any],
    seed: int,
    reading: dict[str, Any],
    output: Path,
) -> None:
    """Write ``studies.tsv``, ``excluded.tsv``, ``studies/<study>.json``, ``source.json``.

    ``download``: the settings ``studies``, ``patients``, ``list`` (a file) and ``index``;
    ``reading``: the settings of that name. An entry says where the study's series are to be had.
    With hashed keys it is the crosswalk to the original, as its addresses are public.
    Raises PetctError if the request cannot be met, or if a study cannot be used and the settings
    say to stop then.
    """
    index = Path(download["index"]) if download["index"] else None
    table = read_collection(collection, index)
    listed = read_list(Path(download["list"])) if download["list"] else ()
    table = choose_studies(table, download["studies"], download["patients"], listed, seed)
    optional = {"SEG"} if reading["missing_label"] == "negative" else set()
    optional |= {"CT"} if "missing_ct" in reading["accept"] else set()
    studies, incomplete = list_studies(table, optional)

    salt = salt_of(reading)

    def named(study: str, patient: str) -> dict[str, str]:
        if salt is None:
            return {"study": study, "patient": patient}
        keys = {"study": study, "patient": patient}
        return {kind: hashed_key(salt, kind, key) for kind, key in keys.items()}

    place = f"idc:{collection}"
    entries = [
        {**_entry(study, place, salt), **named(study.study, study.patient)} for study in studies
    ]
    rows = [
        (
            entry["study"],
            entry["patient"],
            "idc",
            place,
            "seg" if "label" in entry["series"] else "none",
        )
        for entry in entries
    ]
    excluded = [
        Excluded(**named(row.study, row.patient), reason=row.reason, file=place)
        for row in incomplete
    ]
    write_index(output, entries, rows, excluded)
    source = describe_source(table, studies, index)
    write_json(output / "source.json", source)
    print(
        f"{len(studies)} studies, {len(excluded)} excluded, of collection {collection}"
        f" ({source['index']})"
    )
    print(
        f"to download: {source['studies']} studies of {source['patients']} patients,"
        f" {source['files']} files, {source['gigabytes']:.1f} GB"
    )
    print(f"licence {', '.join(source['licences'])}; cite {_links(source['dois'])}")
    for row in excluded:
        print(f"excluded {row.study}: {row.reason}")
    if excluded and reading["unusable_study"] == "stop":
        first = excluded[0]
        raise PetctError(f"study {first.study} cannot be used: {first.reason}")


def _entry(study: RemoteStudy, place: str, salt: bytes | None) -> dict[str, Any]:
    """What stands in an index entry, but for the keys. It is of no disk yet: no file is named."""
    series = {role: asdict(one) for role, one in study.series.items()}
    if salt is not None:
        for one in series.values():
            one["uid"] = hashed_key(salt, "series", one["uid"])
    addresses = "\n".join(f"{role} {one['url']}" for role, one in series.items())
    return {
        "format": "idc",
        "layout": "",
        "folder": place,
        "hashed": salt is not None,
        "pet": None,
        "ct": None,
        "label": None,
        "series": series,
        "lesions_stated": study.lesions_stated,
        "warnings": [],
        "fingerprint": sha256(addresses.encode()).hexdigest(),
    }


def read_list(file: Path) -> list[str]:
    """The names in a text file, one a line; blank lines and what follows a # are left out."""
    try:
        lines = file.read_text().splitlines()
    except (OSError, ValueError) as error:
        raise PetctError(
            f"list {file} cannot be read as a text file ({type(error).__name__})"
        ) from error
    names = [line.split("#")[0].strip() for line in lines]
    if not any(names):
        raise PetctError(f"list {file} names nobody, expected PatientIDs or StudyInstanceUIDs")
    return [name for name in names if name]


def _links(dois: Sequence[str]) -> str:
    return ", ".join(f"https://doi.org/{doi}" for doi in dois)
