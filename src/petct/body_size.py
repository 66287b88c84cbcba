"""What an SUV can be normalised by besides body weight: lean mass, ideal weight, body surface.

Weight in kg, height in m, sex M, F or O (other: the mean of both formulas, as no formula exists).
Sources: Morgan and Bray 1994 (LBM by James's formula with 120, DICOM's LBM); James and Waterlow
1976 (with 128, DICOM's LBMJAMES128); Janmahasatian et al., Clin Pharmacokinet 44, 2005; Sugawara
et al., Radiology 213, 1999 (ideal weight); Du Bois and Du Bois, Arch Intern Med 17, 1916 (surface).
The names are those of DICOM PS3.3 C.8.9.1.1.12, SUVType (0054,1006).
"""

from __future__ import annotations

from collections.abc import Callable

Formula = Callable[[float, float], float]  # of weight [kg] and height [m]


def _by_sex(sex: str, male: float, female: float) -> float:
    return {"M": male, "F": female, "O": (male + female) / 2.0}[sex]


def lean_mass_morgan_kg(weight_kg: float, height_m: float, sex: str) -> float:
    """1.10 W - 120 (W / H)^2 for men, 1.07 W - 148 (W / H)^2 for women, H in cm."""
    square = (weight_kg / (100.0 * height_m)) ** 2
    return _by_sex(sex, 1.10 * weight_kg - 120.0 * square, 1.07 * weight_kg - 148.0 * square)


def lean_mass_james_kg(weight_kg: float, height_m: float, sex: str) -> float:
    """1.10 W - 128 (W / H)^2 for men, 1.07 W - 148 (W / H)^2 for women, H in cm."""
    square = (weight_kg / (100.0 * height_m)) ** 2
    return _by_sex(sex, 1.10 * weight_kg - 128.0 * square, 1.07 * weight_kg - 148.0 * square)


def lean_mass_janmahasatian_kg(weight_kg: float, height_m: float, sex: str) -> float:
    """9270 W / (6680 + 216 BMI) for men, 9270 W / (8780 + 244 BMI) for women."""
    bmi = weight_kg / height_m**2
    male = 9270.0 * weight_kg / (6680.0 + 216.0 * bmi)
    return _by_sex(sex, male, 9270.0 * weight_kg / (8780.0 + 244.0 * bmi))


def ideal_weight_kg(height_m: float, sex: str) -> float:
    """48.0 + 1.06 (H - 152) for men, 45.5 + 0.91 (H - 152) for women, H in cm."""
    over_cm = 100.0 * height_m - 152.0
    return _by_sex(sex, 48.0 + 1.06 * over_cm, 45.5 + 0.91 * over_cm)


def body_surface_m2(weight_kg: float, height_m: float) -> float:
    """0.007184 W^0.425 H^0.725, H in cm."""
    return float(0.007184 * weight_kg**0.425 * (100.0 * height_m) ** 0.725)
