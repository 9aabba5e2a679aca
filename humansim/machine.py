"""The machine that a trial runs on: its device, its memory, and how torch is set there."""

import contextlib
import ctypes
import os
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import torch


@contextlib.contextmanager
def set_up(threads: int) -> Iterator[None]:
    """Torch and the C library as every trial has them, and as they were afterwards: the same bits, no time lost."""
    with reproducible(threads), keeping_memory():
        yield


@contextlib.contextmanager
def reproducible(threads: int) -> Iterator[None]:
    """A fixed number of threads, deterministic kernels, and torch's global state as before afterwards.

    Torch would also fill all memory that it allocates, against kernels that read what nobody wrote. None here does, and
    filling makes a training step of 64 pixels on a CPU some 5 % longer, one of 224 a fifth.
    """
    before, random = torch.get_num_threads(), torch.random.get_rng_state()
    deterministic = torch.get_deterministic_debug_mode()
    memory: Any = torch.utils.deterministic  # whose setting type checkers do not see
    filled = memory.fill_uninitialized_memory
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("warn")
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.set_deterministic_debug_mode(deterministic)
        memory.fill_uninitialized_memory = filled
        torch.random.set_rng_state(random)


@contextlib.contextmanager
def keeping_memory() -> Iterator[None]:
    """Freed memory is kept for the next step, and given back at the end.

    Glibc gives large pieces back to the system at once, which maps and clears them anew for the next operation: a third
    of the processor time of training on images of 224 pixels. The price is memory, a quarter to 40 % more at the peak,
    in gaps that no other piece fills. On a GPU it is of no account.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "malloc_trim"):  # another C library
        yield
        return
    mapped, trimmed = -3, -1  # M_MMAP_THRESHOLD: bytes from which a piece is mapped; M_TRIM_THRESHOLD: kept at the end
    libc.mallopt(mapped, 1 << 30)
    libc.mallopt(trimmed, (1 << 31) - 1)
    try:
        yield
    finally:
        libc.mallopt(mapped, 32 << 20)  # what glibc raises them to by itself
        libc.mallopt(trimmed, 64 << 20)
        libc.malloc_trim(0)


def reset_peak_memory(device: torch.device) -> None:
    """Begins the high-water mark of memory anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # Linux: start the high-water mark anew


def peak_memory(device: torch.device) -> int:
    """The most bytes since `reset_peak_memory`: of the device's memory on a GPU, of this process's on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def place_of(device: str | None) -> torch.device:
    """The device of this name; without one, the GPU where there is one."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def name_of(place: torch.device) -> str:
    """What results call a device."""
    return torch.cuda.get_device_name(place) if place.type == "cuda" else f"cpu ({platform.machine()})"


def versions() -> dict[str, str]:
    """Of Python and of the packages that a number hangs on."""
    names = ("humansim", "torch", "torchvision", "timm", "open_clip_torch", "numpy", "pillow")
    found = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
