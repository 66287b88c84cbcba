"""Where networks compute, in which precision, and how their weights come back."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO

import torch
from torch.distributed import PrefixStore, Store, TCPStore

from petct.errors import PetctError

_FOREVER = timedelta(days=365)
# Not $TMPDIR, which may differ between jobs that share a GPU.
_LOCKS = Path("/tmp")


@dataclass(frozen=True)
class Gpu:
    """A GPU as this process sees it: ``index`` is PyTorch's, ``name`` the same in every process.

    ``free_bytes`` is 0 where it is not known.
    """

    index: int
    name: str
    free_bytes: int


@contextmanager
def claim_device() -> Iterator[torch.device]:
    """A GPU that no other job of this user on this machine has claimed, until the block ends.

    Of the GPUs that PyTorch sees (CUDA_VISIBLE_DEVICES is respected) it is the free one with most
    free memory, so that other people's jobs are avoided too; while none is free, this waits.
    Where PyTorch sees none it is the CPU, which is never waited for. Under torchrun each process
    gets a GPU of its own. One line says which it is.
    Raises PetctError when torchrun started more processes than PyTorch sees GPUs.
    """
    if not torch.cuda.is_available():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        why = "" if visible is None else f"CUDA_VISIBLE_DEVICES={visible}, but "
        print(f"device: cpu ({why}PyTorch sees no GPU)", flush=True)
        yield torch.device("cpu")
        return
    gpus = list_gpus()
    folder = open_lock_folder(_LOCKS)
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if processes > len(gpus):
        raise PetctError(f"{processes} GPUs are wanted for one training, PyTorch sees {len(gpus)}")
    with ExitStack() as claim:
        if processes == 1:
            gpu = claim.enter_context(hold_one_of(gpus, folder))
        else:
            rank = int(os.environ["LOCAL_RANK"])
            with take_turns(folder, _open_store(), rank, processes):
                gpu = claim.enter_context(hold_one_of(gpus, folder))
        torch.cuda.set_device(gpu.index)
        kind = torch.cuda.get_device_name(gpu.index)
        print(f"device: cuda:{gpu.index} ({kind}, {gpu.name})", flush=True)
        yield torch.device("cuda", gpu.index)


def list_gpus() -> list[Gpu]:
    """The GPUs that PyTorch sees."""
    free_bytes = _ask_free_memory()
    gpus = []
    for index in range(torch.cuda.device_count()):
        uuid = getattr(torch.cuda.get_device_properties(index), "uuid", None)
        name = name_gpu(index, uuid and str(uuid), os.environ.get("CUDA_VISIBLE_DEVICES"))
        gpus.append(Gpu(index, name, free_bytes.get(name, 0)))
    return gpus


def name_gpu(index: int, uuid: str | None, visible: str | None) -> str:
    """What every process calls the GPU that this one sees as ``index``: its UUID where it has one.

    ``visible`` is CUDA_VISIBLE_DEVICES: without a UUID its entry is the physical index, and the
    slice of a divided GPU, which shares the UUID of the whole, goes by its entry there.
    """
    entries = [entry.strip() for entry in (visible or "").split(",") if entry.strip()]
    entry = entries[index] if index < len(entries) else str(index)
    if entry.startswith("MIG-") or not uuid:
        return entry.replace("/", "_")
    return uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"


def read_free_memory(table: str) -> dict[str, int]:
    """Free bytes by UUID from rows of ``GPU-..., MiB``; rows without a number are left out."""
    rows = [line.split(",") for line in table.splitlines()]
    return {
        row[0].strip(): int(row[1]) * 2**20
        for row in rows
        if len(row) == 2 and row[1].strip().isdigit()
    }


def _ask_free_memory() -> dict[str, int]:
    # PyTorch itself would take some hundred megabytes on every GPU that it asks.
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    query = [program, "--query-gpu=uuid,memory.free", "--format=csv,noheader,nounits"]
    return read_free_memory(subprocess.run(query, capture_output=True, text=True).stdout)


def open_lock_folder(parent: Path) -> Path:
    """This user's folder of locks in ``parent``, which everybody may write to.

    Raises PetctError when somebody else has made a folder of that name.
    """
    folder = parent / f"petct-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise PetctError(f"{folder} belongs to somebody else; have it removed")
    return folder


@contextmanager
def hold_one_of(gpus: list[Gpu], folder: Path) -> Iterator[Gpu]:
    """The free one with most free memory, locked by a file in ``folder`` until the block ends.

    While none is free it waits and says so. A killed process holds nothing: the system lets go.
    """
    with ExitStack() as opened:
        files: list[tuple[Gpu, IO[str]]] = []
        for gpu in sorted(gpus, key=lambda gpu: -gpu.free_bytes):
            file = opened.enter_context((folder / f"{gpu.name}.lock").open("a"))
            # A worker process that outlives a killed parent would go on holding the lock.
            os.register_at_fork(after_in_child=file.close)
            files.append((gpu, file))
        held = _try_each(files)
        if held is None:
            print(f"all {len(gpus)} GPUs are taken by other jobs; waiting for one", flush=True)
        while held is None:
            time.sleep(0.5)
            held = _try_each(files)
        yield held


def _try_each(files: list[tuple[Gpu, IO[str]]]) -> Gpu | None:
    for gpu, file in files:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        return gpu
    return None


@contextmanager
def take_turns(folder: Path, store: Store, rank: int, processes: int) -> Iterator[None]:
    """Until all processes of this job have left the block, no other job of several enters it.

    Two jobs that hold one GPU each and wait for the other's would wait for ever. ``store`` is
    shared by the processes of the job.
    """
    with (folder / "several.lock").open("a") as file:
        if rank == 0:
            fcntl.flock(file, fcntl.LOCK_EX)
            store.set("turn", "")
        store.wait(["turn"], _FOREVER)
        yield
        store.set(f"claimed-{rank}", "")
        store.wait([f"claimed-{other}" for other in range(processes)], _FOREVER)


def _open_store() -> Store:
    """The store by which torchrun lets the processes of one job find each other."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return PrefixStore(f"petct-devices-{attempt}", TCPStore(address, port, is_master=False))


def choose_precision(precision: str, device: torch.device) -> torch.dtype:
    """What to compute in: ``auto`` is bfloat16 where the device has instructions for it."""
    if precision == "float32":
        return torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    computes = torch.cpu.get_capabilities().get("avx512_bf16", False)
    return torch.bfloat16 if computes else torch.float32


def copy_weights(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The network's weights on the CPU, free of the network, in the layout that files hold."""
    plain = {"device": "cpu", "memory_format": torch.contiguous_format, "copy": True}
    return {name: w.detach().to(**plain) for name, w in network.state_dict().items()}
