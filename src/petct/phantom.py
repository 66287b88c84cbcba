"""One study of the analytic whole-body FDG PET/CT phantom: its truth and its images.

``describe_study`` draws everything about a study from (seed, study number, size) alone, so that
asking for more studies never changes the others. ``paint_suv`` and ``paint_hu`` give what a perfect
scanner would see on a grid; ``simulate_pet`` and ``simulate_ct`` add blur and noise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from petct.errors import PetctError
from petct.grids import Grid
from petct.phantom_abdomen import bladder, bowel, kidneys, upper_abdomen, ureters
from petct.phantom_anatomy import body, draw_build, heart, vessels
from petct.phantom_lesions import Lesion, place_lesions
from petct.phantom_shapes import Axes, Part, Point, as_point, boxes_of, label_points, paint
from petct.phantom_traps import draw_traps, trap_parts
from petct.phantom_uptake import Tissue, draw_tissues

SIZES = ("demo", "clinical")
FWHM_PER_SIGMA = 2.0 * (2.0 * np.log(2.0)) ** 0.5
CT_FIELD_MM = 500.0
VERTEX_Z_MM = 835.0  # nominal


@dataclass(frozen=True)
class StudyTruth:
    """Everything that is known about one study. Lengths in mm, LPS, scanner coordinates."""

    study: str
    patient: str
    seed: int
    number: int
    size: str
    source: str  # "siemens", "ge", "philips", "admin" (DICOM dialects) or "nifti"
    label_kind: str  # "seg", "rtstruct" or "nifti"
    female: bool
    weight_kg: float
    height_m: float
    age_years: int
    dose_bq: float
    uptake_s: float  # from injection to the start of the PET series
    fwhm_mm: float
    noise: float  # standard deviation of the PET's noise at SUV 1
    pet_grid: Grid
    ct_grid: Grid
    scale_xyz: Point  # nominal frame -> patient
    offset_xyz_mm: Point  # patient -> scanner
    tissues: tuple[Tissue, ...]  # index 0 is air
    parts: tuple[Part, ...]  # in the nominal frame, in painting order
    lesions: tuple[Lesion, ...]
    traps: tuple[str, ...]

    @property
    def positive(self) -> bool:
        return bool(self.lesions)


def study_name(number: int) -> str:
    return f"phantom-{number:03d}"


def study_number(study: str) -> int:
    match = re.fullmatch(r"phantom-(\d{3,})", study)
    if match is None or int(match[1]) < 1:
        raise PetctError(f"phantom study {study!r}: expected a name like phantom-001")
    return int(match[1])


def is_follow_up(number: int) -> bool:
    """Every eighth study is the second one of the patient before."""
    return number % 8 == 0


def describe_study(study: str, seed: int, size: str) -> StudyTruth:
    """Draw one study. The same arguments give the same study, bit for bit."""
    if size not in SIZES:
        raise PetctError(f"phantom size {size!r}: expected one of {', '.join(SIZES)}")
    number = study_number(study)
    person = number - 1 if is_follow_up(number) else number
    of_patient = np.random.default_rng([seed, person, 1])
    of_study = np.random.default_rng([seed, number, 2])

    build = draw_build(of_patient)
    age_years = int(of_patient.integers(31, 84))
    shape_seed = int(of_patient.integers(2**31))
    tonsil_radius = float(of_patient.uniform(5, 8))
    girth = build.scale_xyz[0] * build.scale_xyz[1]
    weight_kg = round(62.0 * girth * build.scale_xyz[2] + 1.15 * build.fat_mm, 1)

    traps = draw_traps(build, of_study)
    metformin = bool(of_study.random() < 0.13)
    tissues = draw_tissues(of_study)
    offset = as_point(of_study.uniform((-6, -185, -760), (6, -165, -700)))
    trap_solids, trap_tissues = trap_parts(traps, build, of_study)
    ureter_parts, ureter_tissues = ureters(of_study)
    bowel_parts, bowel_tissues = bowel(build, of_study, metformin)
    parts = [
        *body(build, np.random.default_rng(shape_seed), tonsil_radius),
        *vessels(),
        *upper_abdomen(build),
        *heart(),
        *bowel_parts,
        *kidneys(),
        *ureter_parts,
        *bladder(build),
        *trap_solids,
    ]
    tissues += trap_tissues + ureter_tissues + bowel_tissues
    if metformin:
        traps = [*traps, "bowel"]
    if ureter_tissues:
        traps = [*traps, "ureter"]

    pet_grid, ct_grid = _draw_grids(of_study, size, build.scale_xyz[2], offset)
    scale = np.asarray(build.scale_xyz)
    index = {tissue.name: k for k, tissue in enumerate(tissues)}
    boxes = boxes_of(parts)

    def tissues_at(points: np.ndarray) -> list[Tissue]:
        nominal = (points - np.asarray(offset)) / scale
        return [tissues[k] for k in label_points(parts, boxes, index, nominal)]

    lesions: list[Lesion] = []
    if number % 3 != 0:
        lesions = place_lesions(
            np.random.default_rng([seed, number, 3]),
            lambda point: point * scale + np.asarray(offset),
            tissues_at,
            _covered_z(pet_grid, ct_grid),
        )
        if not lesions:
            raise PetctError(f"{study} (seed {seed}): no place found for any lesion")
    nifti = number % 24 == 5
    dialects = ("siemens", "ge", "philips", "admin", "ge")
    return StudyTruth(
        study=study,
        patient=f"PHANTOM-{person:03d}",
        seed=seed,
        number=number,
        size=size,
        source="nifti" if nifti else dialects[(number - 1) % 5],
        label_kind="nifti" if nifti else "rtstruct" if number % 4 == 2 else "seg",
        female=build.female,
        weight_kg=weight_kg,
        height_m=round(1.80 * build.scale_xyz[2], 2),
        age_years=age_years,
        dose_bq=round(weight_kg * float(of_study.uniform(2.9, 4.2)) * 1e6, 0),
        uptake_s=round(float(of_study.uniform(55, 75)) * 60.0, 1),
        fwhm_mm=round(float(of_study.uniform(5.0, 7.0)), 2),
        noise=round(float(of_study.uniform(0.09, 0.17)), 3),
        pet_grid=pet_grid,
        ct_grid=ct_grid,
        scale_xyz=build.scale_xyz,
        offset_xyz_mm=offset,
        tissues=tuple(tissues),
        parts=tuple(parts),
        lesions=tuple(lesions),
        traps=tuple(traps),
    )


def _draw_grids(
    rng: np.random.Generator, size: str, tallness: float, offset: Point
) -> tuple[Grid, Grid]:
    """The PET's and the CT's grid: other spacing, other origin, other extent."""
    top = offset[2] + VERTEX_Z_MM * tallness + float(rng.uniform(8, 18))
    if size == "clinical":
        pet_n, pet_mm, pet_dz, slices, ct_n, ct_dz = 400, 2.03642, 3.0, 326, 512, 3.0
    else:
        pet_n, pet_mm, pet_dz, ct_n, ct_dz = 112, 5.09104, 5.0, 128, 6.0
        slices = int(np.ceil((VERTEX_Z_MM + 165.0) * tallness / pet_dz))
    bottom = top - (slices - 1) * pet_dz
    centre = np.asarray(offset[:2]) + rng.uniform(-4, 4, 2)
    corner = centre - pet_mm * (pet_n - 1) / 2
    pet = _grid((slices, pet_n, pet_n), (pet_mm, pet_mm, pet_dz), (*corner, bottom))
    ct_mm = CT_FIELD_MM / ct_n
    corner = centre + rng.uniform(-3, 3, 2) - ct_mm * (ct_n - 1) / 2
    ct_bottom = bottom + float(rng.uniform(-22, 18))
    ct_top = top + float(rng.uniform(-9, 20))
    ct_slices = int((ct_top - ct_bottom) / ct_dz) + 1
    ct = _grid((ct_slices, ct_n, ct_n), (ct_mm, ct_mm, ct_dz), (*corner, ct_bottom))
    return pet, ct


def _grid(shape_zyx: tuple[int, int, int], spacing: Point, origin: Point) -> Grid:
    """Rounded to what DICOM's decimal strings carry without loss."""
    return Grid(
        shape_zyx,
        as_point([round(v, 6) for v in spacing]),
        as_point([round(float(v), 3) for v in origin]),
    )


def _covered_z(*grids: Grid) -> tuple[float, float]:
    """The heights that all grids cover."""
    lows = [grid.origin_xyz_mm[2] for grid in grids]
    highs = [
        low + (g.shape_zyx[0] - 1) * g.spacing_xyz_mm[2] for low, g in zip(lows, grids, strict=True)
    ]
    return max(lows), min(highs)


def axes_xyz_mm(grid: Grid) -> Axes:
    """Coordinates of the voxel centres along x, y and z (an unrotated grid)."""
    nz, ny, nx = grid.shape_zyx
    x0, y0, z0 = grid.origin_xyz_mm
    dx, dy, dz = grid.spacing_xyz_mm
    return x0 + dx * np.arange(nx), y0 + dy * np.arange(ny), z0 + dz * np.arange(nz)


def paint_labels(truth: StudyTruth, grid: Grid) -> tuple[np.ndarray, list[Tissue]]:
    """The tissue of each voxel's centre: (Z, Y, X) uint8 indices, and the tissues they stand for.

    Lesions come last and win everywhere: their volumes are exact.
    """
    tissues = [*truth.tissues, *(lesion.tissue() for lesion in truth.lesions)]
    index = {tissue.name: k for k, tissue in enumerate(tissues)}
    labels = np.zeros(grid.shape_zyx, np.uint8)
    axes = axes_xyz_mm(grid)
    shift, scale = truth.offset_xyz_mm, truth.scale_xyz
    nominal = (
        (axes[0] - shift[0]) / scale[0],
        (axes[1] - shift[1]) / scale[1],
        (axes[2] - shift[2]) / scale[2],
    )
    paint(truth.parts, index, nominal, labels)
    paint([Part(lesion.name, lesion.solid) for lesion in truth.lesions], index, axes, labels)
    return labels, tissues


def paint_suv(truth: StudyTruth, grid: Grid) -> np.ndarray:
    """SUVbw [g/mL] before blur and noise, (Z, Y, X) float32."""
    labels, tissues = paint_labels(truth, grid)
    return np.array([tissue.suv for tissue in tissues], np.float32)[labels]


def paint_hu(truth: StudyTruth, grid: Grid) -> np.ndarray:
    """CT numbers [HU] before blur and noise, (Z, Y, X) float32, without a field of view."""
    labels, tissues = paint_labels(truth, grid)
    return np.array([tissue.hu for tissue in tissues], np.float32)[labels]


def paint_lesions(truth: StudyTruth, grid: Grid) -> np.ndarray:
    """The number of the lesion that holds each voxel's centre, 0 elsewhere; (Z, Y, X) uint8."""
    labels = np.zeros(grid.shape_zyx, np.uint8)
    index = {lesion.name: lesion.number for lesion in truth.lesions}
    parts = [Part(lesion.name, lesion.solid) for lesion in truth.lesions]
    paint(parts, index, axes_xyz_mm(grid), labels)
    return labels


def simulate_pet(
    suv: np.ndarray, grid: Grid, fwhm_mm: float, noise: float, rng: np.random.Generator
) -> np.ndarray:
    """A scanner's view of ``suv``: a Gaussian of ``fwhm_mm``, then correlated noise, never below 0.

    The noise's standard deviation grows with the square root of the signal and is ``noise`` at
    SUV 1; neighbours share it over about half the resolution, as after iterative reconstruction.
    """
    spacing = np.asarray(grid.spacing_zyx_mm)
    image = gaussian_filter(suv, fwhm_mm / FWHM_PER_SIGMA / spacing, mode="nearest", truncate=3.0)
    grain = rng.standard_normal(suv.shape, dtype=np.float32)
    sigma = 0.5 * fwhm_mm / FWHM_PER_SIGMA / spacing
    grain = gaussian_filter(grain, sigma, mode="wrap", truncate=3.0)
    grain *= noise / grain.std()
    grain *= np.sqrt(image + 0.02)
    image += grain
    return np.maximum(image, 0.0, out=image)


def simulate_ct(
    hu: np.ndarray, grid: Grid, noise_hu: float, rng: np.random.Generator
) -> np.ndarray:
    """A scanner's view of ``hu``: slight blur, noise, nothing outside the field of view; int16."""
    image = gaussian_filter(hu, 0.5, mode="nearest", truncate=3.0)
    grain = rng.standard_normal(hu.shape, dtype=np.float32)
    image += noise_hu * grain
    _, ny, nx = grid.shape_zyx
    x = (np.arange(nx) - (nx - 1) / 2)[None, :] * grid.spacing_xyz_mm[0]
    y = (np.arange(ny) - (ny - 1) / 2)[:, None] * grid.spacing_xyz_mm[1]
    image[:, np.hypot(x, y) > CT_FIELD_MM / 2] = -1024.0
    return np.clip(np.rint(image), -1024, 3071).astype(np.int16)


def noise_generator(truth: StudyTruth, modality: str) -> np.random.Generator:
    """The study's own noise; ``modality`` is "pet" or "ct"."""
    return np.random.default_rng([truth.seed, truth.number, {"pet": 4, "ct": 5}[modality]])


def scan_pet(truth: StudyTruth, suv: np.ndarray) -> np.ndarray:
    """The study's PET of ``suv`` (Z, Y, X) on its grid, with the study's resolution and noise."""
    rng = noise_generator(truth, "pet")
    return simulate_pet(suv, truth.pet_grid, truth.fwhm_mm, truth.noise, rng)


def image_pet(truth: StudyTruth) -> np.ndarray:
    """The study's PET: SUVbw [g/mL], (Z, Y, X) float32 on ``truth.pet_grid``."""
    return scan_pet(truth, paint_suv(truth, truth.pet_grid))


def image_ct(truth: StudyTruth) -> np.ndarray:
    """The study's CT: HU, (Z, Y, X) int16 on ``truth.ct_grid``."""
    hu = paint_hu(truth, truth.ct_grid)
    return simulate_ct(hu, truth.ct_grid, 14.0, noise_generator(truth, "ct"))
