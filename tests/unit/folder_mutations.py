"""What else may lie in a study's folder."""

from __future__ import annotations

import io
import random
import re
import zipfile

from pydicom import uid
from pydicom.dataset import Dataset

from drafts import (
    CONVERTS,
    EITHER,
    EXCLUDED,
    Draft,
    Verdict,
    broken,
    edit,
    parse,
    put_raw,
    serialise,
)


def mutate_folder(draft: Draft, rng: random.Random) -> Verdict:
    draw = rng.choice(
        [_add_file, _add_file, _add_dicom, _add_dicom, _add_series, _add_link, _second_label]
    )
    return draw(draft, rng)


def _add_file(draft: Draft, rng: random.Random) -> Verdict:
    """Files of other kinds. Those that are called DICOM may be what is left of a slice."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("a/1.dcm", draft.files.get(draft.pet[0], b""))
    contents = {
        "text": "Befund: ohne Auffälligkeiten\n".encode(),
        "table": b"study\tpatient\n1\t2\n",
        "jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF\0" + rng.randbytes(400) + b"\xff\xd9",
        "zip": archive.getvalue(),
        "gzip": b"\x1f\x8b\x08\0" + rng.randbytes(300),
        "noise": b"\x55" + rng.randbytes(500),
        "empty": b"",
        "one byte": b"x",
    }
    what = rng.choice(sorted(contents))
    folder = rng.choice(["", "a/", "b/", "c/", "elsewhere/"])
    ending = rng.choice(["", ".txt", ".jpg", ".nii.gz", ".nii", ".json", ".dcm", ".DCM"])
    name = f"{folder}{what}{ending}"
    draft.files[name] = contents[what]
    if ending.lower() == ".dcm" or not contents[what]:
        return Verdict("other file", EITHER, re.escape(name))
    return Verdict("other file", CONVERTS)


def _add_dicom(draft: Draft, rng: random.Random) -> Verdict:
    """DICOM objects that are no part of the PET, the CT or the label."""
    kind = "other DICOM"
    source = next((name for name in (*draft.ct, *draft.pet) if not broken(draft, name)), None)
    if source is None:
        return _add_file(draft, rng)
    bare = draft.files[source][128:132] != b"DICM"
    dataset = parse(draft.files[source])
    dataset.SOPInstanceUID = uid.generate_uid(entropy_srcs=[str(rng.random())])
    dataset.SeriesInstanceUID = uid.generate_uid(entropy_srcs=[str(rng.random())])
    draw = rng.randrange(8)
    if draw == 0:
        dataset.Modality, dataset.SOPClassUID = "OT", uid.SecondaryCaptureImageStorage
    elif draw == 1:
        dataset.Modality, dataset.SOPClassUID = "DOC", uid.EncapsulatedPDFStorage
        del dataset["PixelData"]
        dataset.EncapsulatedDocument, dataset.MIMETypeOfEncapsulatedDocument = b"%PDF-1.4", "pdf"
    elif draw == 2:
        dataset.Modality, dataset.SOPClassUID = "MR", uid.MRImageStorage
    elif draw == 3:
        dataset.Modality, dataset.SOPClassUID = "SR", uid.EnhancedSRStorage
        del dataset["PixelData"]
    elif draw == 4:
        dataset.Modality, dataset.SOPClassUID = "CT", uid.CTImageStorage
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    elif draw == 5:  # a slice of somebody else's study: a row of its own
        dataset.StudyInstanceUID = uid.generate_uid(entropy_srcs=[str(rng.random())])
        dataset.PatientID = "SOMEBODY"
    elif draw == 6:
        dataset.SOPClassUID = uid.MediaStorageDirectoryStorage
        draft.files["DICOMDIR"] = serialise(dataset, bare)
        return Verdict(kind, CONVERTS)
    else:  # a single further CT slice, as a series of its own
        dataset.Modality, dataset.SOPClassUID = "CT", uid.CTImageStorage
    if not bare:
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    draft.files[f"other/{draw}"] = serialise(dataset, bare)
    return Verdict(kind, CONVERTS, detail=f"{draw}")


def _add_series(draft: Draft, rng: random.Random) -> Verdict:
    """A further PET or CT series of the study that is not the one to take."""
    draw = rng.randrange(3)
    name = "CT" if draw == 2 else "PET"
    slices = draft.series(name)
    if any(broken(draft, each) for each in slices):
        return _add_file(draft, rng)
    copies = [f"other/{each}" for each in slices[: 6 if name == "CT" else None]]
    for each, copy in zip(slices, copies, strict=False):
        draft.files[copy] = draft.files[each]
    series = uid.generate_uid(entropy_srcs=[str(rng.random())]).encode()

    def change(dataset: Dataset) -> None:
        put_raw(dataset, "SeriesInstanceUID", series)
        put_raw(
            dataset, "SOPInstanceUID", uid.generate_uid(entropy_srcs=[str(rng.random())]).encode()
        )
        put_raw(dataset, "RescaleIntercept", b"500")
        if draw == 0:
            put_raw(dataset, "CorrectedImage", b"DECY")
        elif draw == 1:
            put_raw(dataset, "SeriesType", b"DYNAMIC\\IMAGE")

    edit(draft, copies, change)
    told = ["uncorrected PET", "dynamic PET", "CT of half the slices"][draw]
    return Verdict("series doubled", CONVERTS, detail=told)


def _add_link(draft: Draft, rng: random.Random) -> Verdict:
    kind = "links and pipes"
    draw = rng.randrange(5)
    if draw == 0:
        draft.links["a/up"] = ".."
        draft.links["b/self"] = "self"
    elif draw == 1:
        draft.links["elsewhere/gone"] = "not there"
    elif draw == 2:
        draft.pipes.append("a/pipe")
    elif draw == 3:  # as a store of large files keeps them
        for each in (*draft.pet, *draft.ct):
            if each in draft.files:
                stored = f".store/{each.replace('/', '_')}"
                draft.files[stored] = draft.files.pop(each)
                draft.links[each] = "/".join([".."] * each.count("/") + [stored])
    else:  # a slice whose content was never fetched
        z = rng.randrange(1, len(draft.pet) - 1)
        draft.files.pop(draft.pet[z], None)
        draft.files.pop(f"{draft.pet[z]} copy", None)  # or a doubled slice would stand in
        draft.links[draft.pet[z]] = "../.store/missing"
        return Verdict(kind, EXCLUDED, f"slice|lacks|{re.escape(draft.pet[z])}")
    return Verdict(kind, CONVERTS)


def _second_label(draft: Draft, rng: random.Random) -> Verdict:
    kind = "label doubled"
    if draft.label is None or len(draft.files.get(draft.label, b"")) < 1000:
        return _add_file(draft, rng)
    content = draft.files[draft.label]
    dataset = parse(content)
    if "SOPInstanceUID" not in dataset:
        return _add_file(draft, rng)
    if rng.random() < 0.5:
        dataset.SOPInstanceUID = uid.generate_uid(entropy_srcs=[str(rng.random())])
    try:
        draft.files["c/second"] = serialise(dataset, content[128:132] != b"DICM")
    except Exception:  # the label was broken before
        draft.files["c/second"] = content
    return Verdict(kind, EITHER, "labels")
