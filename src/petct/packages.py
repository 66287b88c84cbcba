"""A trained experiment in one file: what is needed to find lesions in studies that it never saw.

A package is a zip archive of

- ``package.json``: PACKAGE_FORMAT, the experiment, its ``stages`` ("final", or "coarse" before it)
  with the strategy, the kind of network, how it predicts and its folds, how boxes are drawn around
  the coarse stage's findings (``regions``), what the dataset was like (``data``), how probabilities
  are to be read (``calibration``), how it did on studies that it was not trained on
  (``performance``), the versions it was made with, and ``files``: the SHA-256 of every other file;
- ``preprocessing.json``: the settings of resample_study;
- ``model_card.md``: the same for people;
- ``<stage>/fold-<fold>/``: model.json and weights as safetensors; of nnU-Net, plans.json,
  dataset.json and fingerprint.json as well.

It holds no patient's data: neither names of studies nor voxels. Nothing in it is executed: weights
are safetensors, all else is JSON or text, and what JSON names is looked up among known networks.
"""

from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

from petct.errors import PetctError
from petct.job_state import hold_lock
from petct.manifests import read_json, write_json
from petct.metrics import EXPERIMENT_COLUMNS
from petct.trained_models import digest_file

# Of packages that this version writes and reads.
PACKAGE_FORMAT = 1
DESCRIPTION = "package.json"
PREPROCESSING = "preprocessing.json"
CARD = "model_card.md"
_NAME = re.compile(
    r"package\.json|preprocessing\.json|model_card\.md"
    r"|(coarse|final)/fold-\d+/(model|plans|dataset|fingerprint)\.json"
    r"|(coarse|final)/fold-\d+/(last|best)\.safetensors"
)
NETWORKS_OF_PLANS = [
    f"dynamic_network_architectures.architectures.unet.{name}"
    for name in ("PlainConvUNet", "ResidualEncoderUNet")
]
# A fixed time: the same content gives the same bytes.
_DATE = (2000, 1, 1, 0, 0, 0)
_READ_AT_ONCE = 2**22


def name_experiment(description: dict[str, Any], between: str) -> str:
    """Strategy, model and cohort of what package.json describes, with ``between`` between them."""
    return between.join(description["experiment"][column] for column in EXPERIMENT_COLUMNS)


def write_package(folder: Path, description: dict[str, Any], output: Path) -> None:
    """Pack ``folder``, with ``description`` and the digests of all else as package.json."""
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    names = [name for name in names if name != DESCRIPTION]
    for name in names:
        if not _NAME.fullmatch(name):
            raise PetctError(f"{name} has no place in a package")
    files = {name: digest_file(folder / name) for name in names}
    write_json(folder / DESCRIPTION, {"format": PACKAGE_FORMAT, **description, "files": files})
    output.parent.mkdir(parents=True, exist_ok=True)
    draft = output.with_name(output.name + ".tmp")
    # Stored: weights hardly compress.
    with zipfile.ZipFile(draft, "w", zipfile.ZIP_STORED) as archive:
        for name in [DESCRIPTION, *names]:
            entry = zipfile.ZipInfo(name, _DATE)
            entry.external_attr = 0o644 << 16
            with (
                archive.open(entry, "w", force_zip64=True) as target,
                (folder / name).open("rb") as source,
            ):
                shutil.copyfileobj(source, target, _READ_AT_ONCE)
    draft.replace(output)


def unpack_package(package: Path, folder: Path) -> dict[str, Any]:
    """Put a package's files into ``folder``, package.json last, and return what that says.

    Raises PetctError if it is no package, of a newer format, damaged, or holds what does not belong
    into one.
    """
    if not package.is_file():
        raise PetctError(f"package {package}: there is no such file")
    with hold_lock(folder):
        try:
            with zipfile.ZipFile(package) as archive:
                return _unpack(archive, package, folder)
        except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
            raise PetctError(
                f"package {package} is not a whole zip archive ({error}); copy it again"
            ) from None


def _unpack(archive: zipfile.ZipFile, package: Path, folder: Path) -> dict[str, Any]:
    names = archive.namelist()
    if DESCRIPTION not in names:
        raise PetctError(
            f"package {package} holds no {DESCRIPTION}; expected what `snakemake package` makes"
        )
    for name in names:
        if not _NAME.fullmatch(name):
            raise PetctError(f"package {package} holds {name!r}, which has no place in a package")
    for stale in ("coarse", "final"):
        shutil.rmtree(folder / stale, ignore_errors=True)
    (folder / DESCRIPTION).unlink(missing_ok=True)
    draft = folder / f"{DESCRIPTION}.tmp"
    _extract(archive, DESCRIPTION, draft)
    try:
        description = read_json(draft)
        form, files = description["format"], description["files"]
    except (PetctError, UnicodeDecodeError, KeyError, TypeError):
        raise PetctError(f"package {package}: {DESCRIPTION} is damaged") from None
    finally:
        draft.unlink()
    if form != PACKAGE_FORMAT:
        newer = isinstance(form, int) and form > PACKAGE_FORMAT
        remedy = "update this pipeline" if newer else "make the package again"
        raise PetctError(
            f"package {package} is of format {form}, expected {PACKAGE_FORMAT}; {remedy}"
        )
    if missing := sorted(set(files) - set(names)):
        raise PetctError(f"package {package} lacks {', '.join(missing)}")
    for name in sorted(set(names) - {DESCRIPTION}):
        path = folder / name
        _extract(archive, name, path)
        if name not in files or digest_file(path) != files[name]:
            raise PetctError(f"package {package}: {name} is not what {DESCRIPTION} was written for")
        if path.name == "plans.json":
            check_plans(read_json(path), f"package {package}: {name}")
    write_json(folder / DESCRIPTION, description)
    return dict(description)


def _extract(archive: zipfile.ZipFile, name: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(name) as source, path.open("wb") as target:
        shutil.copyfileobj(source, target, _READ_AT_ONCE)


def check_plans(plans: dict[str, Any], what: str) -> None:
    """Raise PetctError if nnU-Net's plans name code other than its networks and torch's layers.

    nnU-Net imports by name what its plans name.
    """
    for configuration in plans.get("configurations", {}).values():
        architecture = configuration.get("architecture", {})
        named = {"network_class_name": architecture.get("network_class_name")}
        if named["network_class_name"] in NETWORKS_OF_PLANS:
            named = {}
        arguments = architecture.get("arch_kwargs", {})
        for key in architecture.get("_kw_requires_import", []):
            value = arguments.get(key)
            if value is not None and not re.fullmatch(
                r"torch\.nn(\.modules\.\w+)*\.\w+", str(value)
            ):
                named[key] = value
        if named:
            raise PetctError(
                f"{what} names {named}, expected nnU-Net's networks and torch's layers"
            )
