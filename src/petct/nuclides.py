"""Radionuclides by their codes: half-lives of positron emitters, and what is no positron emitter.

Codes of RadionuclideCodeSequence (0054,0300): SNOMED CT, and SNOMED RT as older scanners write
it (DICOM PS3.16 CID 4020 and CID 18). Half-lives: Decay Data Evaluation Project (LNHB), but for
F-18 and Ga-68, where scanners write 6586.2 s and 4057.7 s.
"""

from __future__ import annotations

POSITRON_HALF_LIFE_S = {
    ("40565003", "C-105A1"): 1221.8,  # C-11
    ("21576001", "C-107A1"): 597.9,  # N-13
    ("129504001", "C-B1038"): 122.2,  # O-15
    ("77004003", "C-111A1"): 6586.2,  # F-18
    ("3932008", "C-127A2"): 45721.0,  # Cu-64
    ("35337001", "C-131A3"): 4057.7,  # Ga-68
    ("79197006", "C-159A2"): 75.5,  # Rb-82
    ("10738001", "C-162A3"): 53064.0,  # Y-86
    ("63360001", "C-168A4"): 282276.0,  # Zr-89
    ("40937006", "C-114A5"): 360800.0,  # I-124
}
SINGLE_PHOTON = {
    ("72454006", "C-163A8"): "Tc-99m",
    ("21572004", "C-114A4"): "I-123",
    ("1368003", "C-114B1"): "I-131",
    ("56609000", "C-145A4"): "In-111",
    ("2008008", "C-131A2"): "Ga-67",
    ("60057003", "C-138A9"): "Tl-201",
    ("447553000", "C-101ED"): "Lu-177",
    ("27081007", "C-172A5"): "Xe-127",
    ("80751004", "C-172A8"): "Xe-133",
    ("61716009", "C-173A5"): "Kr-81m",
}


def half_life_of_code_s(code: str | None) -> float | None:
    """The half-life of a positron emitter by its code, or None for any other code."""
    return next((life for codes, life in POSITRON_HALF_LIFE_S.items() if code in codes), None)


def single_photon_nuclide(code: str | None) -> str | None:
    """The name of a nuclide that no PET scanner images, by its code, or None."""
    return next((name for codes, name in SINGLE_PHOTON.items() if code in codes), None)
