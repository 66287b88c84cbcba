"""How much FDG each tissue takes up in one study, and how dense it is on CT.

Sources of the means and standard deviations of SUVbw [g/mL]:

- blood pool 1.55 +- 0.38 and liver 2.17 +- 0.44: Boktor et al., J Nucl Med 2013;54:677-682
  (132 patients, first of two scans);
- cerebellum 8.0 +- 2.2, soft palate 2.92 +- 0.86, palatine tonsils 3.45 +- 1.4, sublingual glands
  3.3 +- 1.5, testes 2.57 +- 0.56: Wang et al., Mol Imaging Biol 2007;9:83-90 (98 patients).

Every other value is chosen to look like a clinical scan and cites no source. CT numbers [HU] are
chosen too: portal-venous phase, as in most diagnostic PET/CT.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tissue:
    """One tissue of one study: its SUVbw [g/mL] and CT number [HU], constant throughout."""

    name: str
    suv: float
    hu: float


# tissue: (mean SUV, standard deviation, HU), drawn from a normal law cut at 2 deviations
STEADY: dict[str, tuple[float, float, float]] = {
    "fat": (0.28, 0.06, -105.0),
    "visceral fat": (0.40, 0.08, -95.0),
    "muscle": (0.70, 0.14, 58.0),
    "skin": (0.50, 0.10, 20.0),
    "lung": (0.45, 0.10, -830.0),
    "lung vessel": (0.80, 0.15, 60.0),
    "airway": (0.05, 0.01, -985.0),
    "blood": (1.55, 0.38, 150.0),
    "liver": (2.17, 0.44, 108.0),
    "gallbladder": (0.60, 0.15, 8.0),
    "spleen": (1.85, 0.35, 118.0),
    "pancreas": (1.50, 0.30, 85.0),
    "adrenal": (1.60, 0.30, 60.0),
    "kidney cortex": (3.10, 0.60, 165.0),
    "stomach wall": (2.00, 0.60, 70.0),
    "stomach content": (0.40, 0.10, 15.0),
    "oesophagus": (1.70, 0.30, 42.0),
    "grey matter": (9.50, 1.90, 40.0),
    "white matter": (3.60, 0.70, 30.0),
    "cerebellum": (8.00, 2.20, 38.0),
    "cerebrospinal fluid": (0.90, 0.20, 8.0),
    "spinal cord": (1.90, 0.35, 35.0),
    "eye": (0.80, 0.20, 15.0),
    "eye muscle": (3.60, 0.90, 55.0),
    "soft palate": (2.92, 0.86, 55.0),
    "tonsil": (3.45, 1.40, 60.0),
    "sublingual gland": (3.30, 1.50, 45.0),
    "parotid gland": (1.90, 0.50, 15.0),
    "tongue": (1.60, 0.35, 60.0),
    "larynx": (1.80, 0.60, 75.0),
    "cortical bone": (0.45, 0.10, 780.0),
    "rib": (0.90, 0.18, 330.0),
    "disc": (0.60, 0.12, 85.0),
    "cartilage": (0.60, 0.12, 105.0),
    "testes": (2.57, 0.56, 40.0),
    "prostate": (1.80, 0.35, 45.0),
    "uterus": (1.90, 0.60, 70.0),
    "breast": (0.85, 0.20, -25.0),
    "table": (0.0, 0.0, -650.0),  # foam and carbon fibre, averaged
}

# tissue: (median SUV, log standard deviation, least, most, HU), drawn from a cut log-normal law
FREE: dict[str, tuple[float, float, float, float, float]] = {
    "heart wall": (3.6, 0.75, 1.3, 14.0, 105.0),
    "bladder": (14.0, 0.75, 4.0, 50.0, 6.0),
    "kidney pelvis": (9.0, 0.55, 3.5, 28.0, 14.0),
    "thyroid": (1.4, 0.25, 0.8, 2.4, 110.0),
}


def _normal(rng: np.random.Generator, mean: float, sd: float) -> float:
    return float(mean + sd * np.clip(rng.standard_normal(), -2.0, 2.0))


def log_normal(
    rng: np.random.Generator, median: float, log_sd: float, least: float, most: float
) -> float:
    return float(np.clip(median * np.exp(log_sd * rng.standard_normal()), least, most))


def draw_tissues(rng: np.random.Generator) -> list[Tissue]:
    """The steady tissues of one study. Every study draws the same number of values, in order."""
    tissues = [Tissue("air", 0.0, -1000.0)]
    for name, (mean, sd, hu) in STEADY.items():
        tissues.append(Tissue(name, round(_normal(rng, mean, sd), 3), hu))
    for name, (median, log_sd, least, most, hu) in FREE.items():
        suv = log_normal(rng, median, log_sd, least, most)
        tissues.append(Tissue(name, round(suv, 3), hu))
    # One level for all red marrow; about one patient in eight has it switched on (G-CSF, anaemia).
    marrow = log_normal(rng, 1.5, 0.2, 1.0, 2.3) * (1.9 if rng.random() < 0.12 else 1.0)
    tissues.append(Tissue("red marrow", round(marrow, 3), 190.0))
    tissues.append(Tissue("yellow marrow", round(0.35 * marrow, 3), -30.0))
    return tissues
