"""Where a result comes from: data, code, settings, package versions and hardware.

Neither time nor host nor person nor path is told: one machine repeats an origin byte for byte.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from petct.manifests import write_json

if TYPE_CHECKING:
    import torch

# The packages that results hang on, by the module that a script imports.
PACKAGES = {
    "SimpleITK": "SimpleITK",
    "batchgenerators": "batchgenerators",
    "batchgeneratorsv2": "batchgeneratorsv2",
    "cc3d": "connected-components-3d",
    "dynamic_network_architectures": "dynamic_network_architectures",
    "gdcm": "python-gdcm",
    "highdicom": "highdicom",
    "isal": "isal",
    "monai": "monai",
    "nibabel": "nibabel",
    "nnunetv2": "nnunetv2",
    "numpy": "numpy",
    "pandas": "pandas",
    "pyarrow": "pyarrow",
    "pydicom": "pydicom",
    "safetensors": "safetensors",
    "scipy": "scipy",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "torch": "torch",
    "torchio": "torchio",
}


def describe_origin(
    script: str,
    code: str,
    settings: Any,
    data: dict[str, str],
    device: torch.device | None = None,
) -> dict[str, Any]:
    """What fixes a result of ``script``, to be called when it is computed.

    ``code`` is the digest of the script's code, ``settings`` any JSON value, ``data`` the digest
    of each thing that was read, ``device`` where a network computed. ``versions`` are of Python
    and of those packages that this process has imported.
    """
    return {
        "script": script,
        "code": code,
        "settings": settings,
        "data": data,
        "versions": list_versions(),
        "hardware": describe_hardware(device),
    }


def save_origin(table: Path, script: str, code: str, settings: Any, inputs: Iterable[Path]) -> None:
    """Write ``<table>.origin.json`` beside a finished table: its origin and its own SHA-256."""
    origin = describe_origin(script, code, settings, digest_files(inputs, table.parent))
    origin["sha256"] = digest_file(table)
    write_json(table.with_suffix(".origin.json"), origin)


def digest_files(files: Iterable[Path], folder: Path) -> dict[str, str]:
    """SHA-256 of each file's bytes, by its path from ``folder``, where the origin is to stand."""
    return {os.path.relpath(path, folder): digest_file(path) for path in files}


def digest_file(path: Path) -> str:
    """SHA-256 of a small file's bytes, as sha256sum prints it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def list_versions() -> dict[str, str]:
    """Versions of Python and of those PACKAGES that this process has imported."""
    imported = {name for module, name in PACKAGES.items() if module in sys.modules}
    versions = {name: metadata.version(name) for name in imported}
    return {"Python": platform.python_version(), **dict(sorted(versions.items()))}


def describe_hardware(device: torch.device | None = None) -> dict[str, Any]:
    """The system, the processor and, if a network computed on ``device``, how.

    ``processes``: how many computed together, if several; ``gpu``, ``driver`` and ``cuda``: the
    names of what they computed on, if it was a GPU.
    """
    told: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": name_processor(),
        "logical_cores": os.cpu_count(),
    }
    if device is None:
        return told
    # Tables are made without PyTorch, which takes a second to import.
    import torch
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        told["processes"] = distributed.get_world_size()
    if device.type == "cuda":
        told["gpu"] = torch.cuda.get_device_name(device)
        told["driver"] = find_driver(Path("/proc/driver/nvidia/version"))
        told["cuda"] = torch.version.cuda or "none"
    return told


def name_processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's model, "unknown" where the system does not tell."""
    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.M)
    return model[1].strip() if model else platform.processor() or "unknown"


def find_driver(version: Path) -> str:
    """The number of NVIDIA's driver, "unknown" where the system does not tell."""
    text = version.read_text() if version.is_file() else ""
    number = re.search(r"^NVRM version:.*?\s(\d+(?:\.\d+)+)\s", text, re.M)
    return number[1] if number else "unknown"
