"""Cases of PET/CT in nnU-Net's raw layout, as autoPET III and IV are published.

    <root>/dataset.json
    <root>/imagesTr/<case>_0000.nii.gz   CT on the PET's grid
    <root>/imagesTr/<case>_0001.nii.gz   SUV
    <root>/labelsTr/<case>.nii.gz        (likewise imagesTs and labelsTs)

Sources: nnU-Net v2, documentation of the dataset format (channel_names; "modality" in version 1);
the autoPET III and IV data descriptions.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from petct.file_tree import NNUNET_LABELS

ENDING = ".nii.gz"
CHANNEL = re.compile(r"(?P<case>.+)_(?P<number>\d{4})")
# autoPET's names: tracer, hash of the patient, and what tells the patient's studies apart.
AUTOPET_CASE = re.compile(r"((?:fdg|psma)_[0-9A-Za-z]+)_.+")
CT_NUMBER, PET_NUMBER = 0, 1  # unless dataset.json names them otherwise


@dataclass(frozen=True)
class Case:
    """A case's files. ``fault``: why it is none, or empty. ``patient`` is empty if not known."""

    case: str
    patient: str
    folder: Path
    pet: Path | None
    ct: Path | None
    label: Path | None
    warnings: tuple[str, ...]
    fault: str

    @property
    def files(self) -> dict[str, tuple[Path, ...]]:
        """By role."""
        roles = {"pet": self.pet, "ct": self.ct, "label": self.label}
        return {role: (path,) for role, path in roles.items() if path}


def list_cases(found: Mapping[Path, Sequence[Path]]) -> list[Case]:
    """The cases among NIfTI files, given by folder (imagesTr, imagesTs, labelsTr, labelsTs).

    Every file belongs to a case: an image that is not named as a channel is one with a fault.
    """
    cases = []
    for root in sorted({folder.parent for folder in found}):
        numbers = _channel_numbers(root / "dataset.json")
        for images, labels in NNUNET_LABELS.items():
            folders = root / images, root / labels
            cases += _cases_of(*folders, found, numbers)
    return cases


def _cases_of(
    images: Path, labels: Path, found: Mapping[Path, Sequence[Path]], numbers: tuple[int, int] | str
) -> list[Case]:
    channels: dict[str, dict[int, Path]] = defaultdict(dict)
    cases = []
    for path in found.get(images, ()):
        if named := CHANNEL.fullmatch(path.name.removesuffix(ENDING)):
            channels[named["case"]][int(named["number"])] = path
        else:
            fault = "not named as a channel is, with four digits at the end"
            # The whole name, so that it is not taken for a label of a case.
            cases.append(Case(path.name, "", images, path, None, None, (), fault))
    label_of = {path.name.removesuffix(ENDING): path for path in found.get(labels, ())}
    for name in sorted(channels.keys() | label_of.keys()):
        cases.append(_case(name, images, channels.get(name, {}), label_of.get(name), numbers))
    return cases


def _case(
    name: str,
    images: Path,
    channels: Mapping[int, Path],
    label: Path | None,
    numbers: tuple[int, int] | str,
) -> Case:
    fault = numbers if isinstance(numbers, str) else ""
    ct_number, pet_number = (CT_NUMBER, PET_NUMBER) if isinstance(numbers, str) else numbers
    warnings = []
    if others := sorted(channels.keys() - {ct_number, pet_number}):
        listed = ", ".join(f"{number:04d}" for number in others)
        warnings.append(f"channel(s) {listed} are not used: CT and PET are others")
    autopet = AUTOPET_CASE.fullmatch(name)
    if not autopet:
        warnings.append(
            "its patient is not known from its name and counts as another than every other case's: "
            "if a patient has several cases, they may fall into training and test alike"
        )
    if not channels:
        expected = f"channels {ct_number:04d} and {pet_number:04d} in {images.name}"
        fault = fault or f"a label without images: expected {expected}"
    elif pet_number not in channels:
        fault = fault or f"no PET: expected channel {pet_number:04d}"
    return Case(
        case=name,
        patient=autopet[1] if autopet else name,
        folder=images,
        pet=channels.get(pet_number),
        ct=channels.get(ct_number),
        label=label,
        warnings=tuple(warnings),
        fault=fault,
    )


def _channel_numbers(file: Path) -> tuple[int, int] | str:
    """The numbers of CT and PET by dataset.json, else the usual; or why they cannot be known.

    Names that do not tell the two apart, as where both are normalised as CT, leave the usual.
    """
    if not file.exists():
        return CT_NUMBER, PET_NUMBER
    try:
        stated = json.loads(file.read_text())
        named = stated.get("channel_names") or stated.get("modality") or {}
        kinds = {int(number): _kind(str(name)) for number, name in named.items()}
    except (OSError, ValueError, AttributeError) as error:
        return f"{file.name} cannot be read ({type(error).__name__}), expected channel_names"
    ct = [number for number, kind in kinds.items() if kind == "ct"]
    pet = [number for number, kind in kinds.items() if kind == "pet"]
    return (ct[0], pet[0]) if len(ct) == len(pet) == 1 else (CT_NUMBER, PET_NUMBER)


def _kind(name: str) -> str:
    if re.search("pet|suv|pt", name, re.IGNORECASE):
        return "pet"
    return "ct" if re.search("ct", name, re.IGNORECASE) else ""
