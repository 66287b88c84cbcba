"""Writing lesions as a DICOM Segmentation that refers to the PET series they were found in.

Segmentation Storage, PS3.3 A.51: binary frames on the PET's own grid, one per slice that has any
lesion. The property's codes are SNOMED CT's: category "Morphologically Abnormal Structure", type
"Lesion" (CID 7150, CID 7159).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from petct.dicom_series import order_slices, read_headers, tag_name
from petct.errors import PetctError
from petct.grids import Grid
from petct.manifests import digest_arrays
from petct.packages import name_experiment

MAKER = "petct-lesions"
# Hue by hue, as far apart as may be: CIELab's red first.
_COLOURS_RGB = [
    *[(213, 94, 0), (0, 114, 178), (0, 158, 115), (204, 121, 167)],
    *[(230, 159, 0), (86, 180, 233), (240, 228, 66)],
]
# Characters of a value, PS3.5 6.2.
_LONGEST = {"SH": 16, "LO": 64}
# Above the numbers that scanners give their own series.
_SERIES_NUMBER = 9001


def write_seg(
    numbers: np.ndarray,
    grid: Grid,
    pet_files: list[Path],
    each: bool,
    package: dict[str, Any],
    output: Path,
) -> None:
    """Write lesion ``numbers`` (Z, Y, X; from 1, 0 is none) on the PET's ``grid`` to ``output``.

    ``pet_files`` are the slices of the series; ``each``: a segment for every lesion, else one for
    all. ``package`` says what found them. Without a lesion there is one segment, whose frames are
    all empty. UIDs follow from content, so that the same result is the same object. Raises
    PetctError if ``grid`` is not that of the series.
    """
    pet = order_slices(read_headers(pet_files), single_slices=True)
    if numbers.shape != pet.grid.shape_zyx or not np.allclose(
        grid.origin_xyz_mm, pet.grid.origin_xyz_mm, atol=1e-3
    ):
        raise PetctError(
            f"the lesions' grid is not that of the PET series in {pet_files[0].parent}"
        )
    sources = list(pet.slices)
    count = int(numbers.max())
    experiment = name_experiment(package, "/")
    found_by = digest_arrays(numbers, geometry=[grid.to_json(), package["files"], each])
    series = str(sources[0].SeriesInstanceUID)

    def identify(*parts: str) -> str:
        return generate_uid(entropy_srcs=[series, found_by, *parts])

    algorithm = hd.AlgorithmIdentificationSequence(
        name=f"{MAKER} {experiment}"[:64],
        family=codes.cid7162.ArtificialIntelligence,
        version=found_by[:16],
        source=MAKER,
    )
    names = [f"Lesion {n}" for n in range(1, count + 1)] if each and count else ["Lesions"]
    segments = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Lesion,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            tracking_id=name,
            tracking_uid=identify("tracking", name),
            display_color=hd.color.CIELabColor.from_rgb(
                *_COLOURS_RGB[(number - 1) % len(_COLOURS_RGB)]
            ),
        )
        for number, name in enumerate(names, start=1)
    ]
    # As a label map it takes one volume, however many lesions there are.
    labels = numbers if each else (numbers > 0).astype(np.uint8)
    seg = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=labels.astype(np.uint16 if count > 255 and each else np.uint8),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        series_instance_uid=identify("series"),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=identify("instance"),
        instance_number=1,
        manufacturer=MAKER,
        manufacturer_model_name=experiment[:64],
        software_versions=str(package["format"]),
        device_serial_number=found_by[:16],
        series_description=("Lesions, automatic" if count else "No lesions, automatic"),
        content_label="LESIONS",
        content_description="Proposed by a network, not checked by a reader"[:64],
        omit_empty_frames=bool(count),
    )
    _settle_dimensions(seg, identify("dimensions"))
    for name in _shorten_texts(seg):
        print(f"{output}: {name} of the PET series is longer than DICOM allows and was cut")
    output.parent.mkdir(parents=True, exist_ok=True)
    seg.save_as(output)


def _shorten_texts(seg: Dataset) -> list[str]:
    """Cut what the study's own attributes hold beyond the length of their type; their names."""
    cut = []
    for element in seg:
        longest = _LONGEST.get(element.VR)
        if longest and isinstance(element.value, str) and len(element.value) > longest:
            element.value = element.value[:longest]
            cut.append(tag_name(element.keyword))
    return cut


def _settle_dimensions(seg: Dataset, organization: str) -> None:
    seg.DimensionOrganizationSequence[0].DimensionOrganizationUID = organization
    for item in seg.DimensionIndexSequence:
        item.DimensionOrganizationUID = organization
