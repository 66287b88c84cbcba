"""SUVs normalised by something else than body weight, and how they relate to SUVbw.

Every SUV is the same activity per dose times a size of the body, so that two of them differ by
one factor per patient. Types are named as in DICOM's SUVType (0054,1006).
"""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset

from petct.body_size import (
    body_surface_m2,
    ideal_weight_kg,
    lean_mass_james_kg,
    lean_mass_janmahasatian_kg,
    lean_mass_morgan_kg,
)
from petct.dicom_series import numbers, tag_name, text
from petct.errors import StudyError

HEAVIEST_KG = 500.0
SHORTEST_M, TALLEST_M = 0.3, 2.5

LEAN_MASS_KG = {
    "LBM": ("lean mass by Morgan", lean_mass_morgan_kg),
    "LBMJAMES128": ("lean mass by James", lean_mass_james_kg),
    "LBMJANMA": ("lean mass by Janmahasatian", lean_mass_janmahasatian_kg),
}
SUV_TYPES = (*LEAN_MASS_KG, "IBW", "BSA")


@dataclass(frozen=True)
class SuvRatio:
    """``per_suvbw``: what SUVbw [g/mL] is multiplied by; ``unit`` of the result."""

    per_suvbw: float
    unit: str
    explanation: str
    warnings: tuple[str, ...]


def weight_kg(header: Dataset) -> float:
    """PatientWeight (0010,1030). Raises StudyError if it is missing or impossible."""
    (weight,) = numbers(header, "PatientWeight", 1)
    if not 0 < weight <= HEAVIEST_KG:
        raise StudyError(
            f"{tag_name('PatientWeight')} is {weight:g}, expected kg, up to {HEAVIEST_KG:g}"
        )
    return weight


def height_m(header: Dataset) -> tuple[float, tuple[str, ...]]:
    """PatientSize (0010,1020) in m, and a warning if it was written in cm. Raises StudyError."""
    (size,) = numbers(header, "PatientSize", 1)
    if SHORTEST_M <= size <= TALLEST_M:
        return size, ()
    if SHORTEST_M <= size / 100.0 <= TALLEST_M:
        return size / 100.0, (f"{tag_name('PatientSize')} {size:g} was read as cm",)
    raise StudyError(
        f"{tag_name('PatientSize')} is {size:g}, expected m, {SHORTEST_M:g} to {TALLEST_M:g}"
    )


def suv_ratio(header: Dataset, suv_type: str) -> SuvRatio:
    """How an SUV of this type follows from SUVbw: by mass / weight, or by surface / weight.

    Raises StudyError if weight, height or (but for BSA) sex is missing or impossible. For a sex
    that is neither M nor F the mean of both formulas is taken, with a warning.
    """
    weight = weight_kg(header)
    height, warnings = height_m(header)
    of = f"weight {weight:.1f} kg, height {height:.2f} m"
    if suv_type == "BSA":
        surface_m2 = body_surface_m2(weight, height)
        words = f"body surface by Du Bois {surface_m2:.4f} m2 ({of})"
        return SuvRatio(surface_m2 * 1e4 / (weight * 1e3), "cm2/mL", words, warnings)
    sex = text(header, "PatientSex")
    if sex not in ("M", "F", "O"):
        found = "missing" if sex is None else "none of M, F, O"
        raise StudyError(f"{tag_name('PatientSex')} is {found}; SUVType {suv_type} needs it")
    if sex == "O":
        warnings += (f"{tag_name('PatientSex')} is O: mean of the formulas for M and F",)
    if suv_type == "IBW":
        mass_kg, name = ideal_weight_kg(height, sex), "ideal weight by Sugawara"
    else:
        name, formula = LEAN_MASS_KG[suv_type]
        mass_kg = formula(weight, height, sex)
    if mass_kg <= 0:
        raise StudyError(f"the {name} of {of} is {mass_kg:.1f} kg, expected more than 0")
    return SuvRatio(
        mass_kg / weight, "g/mL", f"{name} {mass_kg:.2f} kg ({of}, sex {sex})", warnings
    )
