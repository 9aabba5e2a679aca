"""Checks of a machine, its disks, the tracking store and a cluster; each really does what a sweep would do."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from humansim.errors import BadInput
from humansim.root import Root, locked, written_whole

GIB = 1 << 30
LITTLE = 10 * GIB  # free disk that is soon full of weights and checkpoints
SEEN = ("HUMANSIM_", "MLFLOW_", "RAY_", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "HF_HOME", "TORCH_HOME")
HELD = 75  # exit code of who finds a lock held
TRIES = f"""
import fcntl, sys
try:
    fcntl.flock(open(sys.argv[1], "a"), fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit({HELD})
"""
SECRET = ("TOKEN", "PASSWORD", "SECRET", "KEY")


@dataclass(frozen=True)
class Check:
    """What was looked at, how it stands, what was found, and what to do then."""

    what: str
    state: Literal["ok", "warn", "fail"]
    found: str
    then: str = ""


def checks(
    root: Root, tracking: str | None = None, address: str | None = None
) -> Iterator[tuple[str, Iterator[Check]]]:
    """What is looked at, one after another, each with what it finds, which is looked for as it is asked for.

    What takes no time comes first; the cluster only where there is an address.
    """
    yield "environment", _environment()  # before libraries add to it
    yield "machine", _machine()
    yield "disks", _disks(root)
    yield "locks", _locks(root)
    yield "own parts", _parts()
    yield "weights", _weights()
    yield "tracking store", _tracking(root, tracking)
    yield "GPU", _gpu()
    if address := address or os.environ.get("RAY_ADDRESS"):
        yield f"cluster {address}", _cluster(address, root)


def _gpu() -> Iterator[Check]:
    import torch

    driver = ""
    if program := shutil.which("nvidia-smi"):
        asked = [program, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        told = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=False)
        driver = "; ".join(told.stdout.split("\n")).strip("; ") if told.returncode == 0 else ""
    built = f"torch {torch.__version__}, CUDA {torch.version.cuda or 'none'}"
    if torch.cuda.is_available():
        every = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        names = ", ".join(f"{one.name} ({one.total_memory / GIB:.0f} GiB)" for one in every)
        try:
            worked = float(torch.ones(8, device="cuda").sum()) == 8
        except RuntimeError as error:
            yield Check(
                "GPU", "fail", f"{names}: {str(error).partition(chr(10))[0]}", "another process may hold it all"
            )
            return
        state: Literal["ok", "fail"] = "ok" if worked else "fail"
        yield Check("GPU", state, f"{names}; {driver}; {built}", "" if worked else "it adds wrongly: do not use it")
    elif driver:
        yield Check(
            "GPU", "fail", f"{driver}, but torch sees none; {built}", "install a torch built for this driver's CUDA"
        )
    else:
        yield Check("GPU", "warn", f"none; {built}", "trials run on the CPU: little networks, or a cluster (--address)")


def _machine() -> Iterator[Check]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    page = os.sysconf("SC_PAGE_SIZE")
    total, free = os.sysconf("SC_PHYS_PAGES") * page, None
    with contextlib.suppress(OSError):  # Linux
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    text = f"{cores} cores, {total / GIB:.1f} GiB of memory" + ("" if free is None else f", {free / GIB:.1f} free")
    short = (total if free is None else free) < 4 * GIB
    yield Check("machine", "warn" if short else "ok", text, "a trial needs 1 to 4 GiB; end others" if short else "")


def _disks(root: Root) -> Iterator[Check]:
    for what, place in (("root", root.path), ("data", root.data)):
        there = next(folder for folder in (place, *place.parents) if folder.exists())
        free = shutil.disk_usage(there).free
        text = f"{place}: {free / GIB:.0f} GiB free"
        if what == "data" and not place.is_dir():
            yield Check(what, "warn", f"{text}; not there yet", "humansim data fetch, or name a folder by --data")
        else:
            few = free < LITTLE
            yield Check(what, "warn" if few else "ok", text, "free some, or another --root; --keep 1" if few else "")


def _locks(root: Root) -> Iterator[Check]:
    """Whether a lock that one process holds keeps another out, and a file is put in place whole."""
    kind = _file_system(root.path)
    place = root.path / f".doctor-{os.getpid()}"
    try:
        with written_whole(place) as file:
            file.write_text("whole")
        with locked(place, wait=True):
            other = subprocess.run([sys.executable, "-c", TRIES, str(place)], timeout=30, check=False)
        works = other.returncode == HELD and place.read_text() == "whole"
    except OSError as error:
        yield Check("locks", "fail", f"{root.path} ({kind}): {error.strerror}", "a root on a file system with flock")
        return
    finally:
        place.unlink(missing_ok=True)
    if works:
        yield Check("locks", "ok", f"{kind}: a lock keeps others out, files are put in place whole")
    else:
        yield Check("locks", "fail", f"{root.path} ({kind}): a lock keeps nobody out", "mount it with flock")


def _file_system(path: Path) -> str:
    """Its kind, as Linux says; of the mount that is nearest above the path."""
    try:
        lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    except OSError:
        return "file system unknown"
    above = [(len(place), kind) for _, place, kind, *_ in lines if path.is_relative_to(place)]
    return max(above)[1] if above else "file system unknown"


def _weights() -> Iterator[Check]:
    from humansim.backbones import backbone, weights
    from humansim.spec import Variant

    files = {f for entry in backbone if not entry.is_family for f in weights.files_of(Variant(entry.name))}
    missing = sorted(file.name for file in files if weights.find(file) is None)
    there = f"{len(files) - len(missing)} of {len(files)} published files there"
    text = f"{there}, in {weights.folder()} and the libraries' caches; efficientnet_lite0's come with its package"
    if missing:
        yield Check("weights", "warn", text, "humansim weights list SWEEP; submitting fetches what a sweep needs")
    else:
        yield Check("weights", "ok", text)


def _tracking(root: Root, given: str | None) -> Iterator[Check]:
    from humansim import tracked
    from humansim.tracking import tracking_uri

    uri = tracking_uri(root, given)
    file = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:///") and not file.exists():
        if file.parent.is_dir() and os.access(file.parent, os.W_OK):
            yield Check("tracking", "ok", f"{uri}: not there yet, made by the first submit")
        else:
            yield Check("tracking", "fail", f"{uri}: {file.parent} is no folder that can be written to", "another")
        return
    try:
        there, newest = tracked.schema(uri)
    except BadInput as error:
        yield Check("tracking", "fail", str(error), "start it, or give another --tracking")
        return
    if there is None:
        yield Check("tracking", "ok", f"{uri} answers")
    elif there != newest:
        upgrade = f"mlflow db upgrade {uri}, after a copy of it, or the version of mlflow that made it"
        yield Check("tracking", "fail", f"{uri}: schema {there}, this mlflow's is {newest}", upgrade)
    else:
        yield Check("tracking", "ok", f"{uri}: answers, schema {there}")


def _parts() -> Iterator[Check]:
    from humansim import own

    try:
        own.ready()
    except BadInput as error:
        yield Check("own parts", "fail", str(error), "mend it, or leave it out")
        return
    _, modules = own.carried()
    yield Check("own parts", "ok", ", ".join(modules) or "none")


def versions() -> dict[str, str]:
    """Of what has to be alike on all nodes."""
    import platform

    names = ("humansim", "ray", "torch", "numpy")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}


def _cluster(address: str, root: Root) -> Iterator[Check]:
    from humansim.launch import cluster

    seen = root.path / f".doctor-{os.getpid()}-seen"
    try:
        with cluster.connected(address), locked(seen, wait=True):
            nodes = cluster.on_every_node(look, seen)
    except BadInput as error:
        yield Check("cluster", "fail", str(error))
        return
    finally:
        seen.unlink(missing_ok=True)
    here, answer = versions(), sum(not isinstance(told, str) for told in nodes.values())
    alike = ", ".join(f"{name} {version}" for name, version in here.items())
    yield Check("cluster", "ok", f"{address}: {answer} of {len(nodes)} nodes answer; here {alike}")
    for name, told in nodes.items():
        if isinstance(told, str):
            yield Check("node", "fail", f"{name}: {told}", "humansim, the same version, on every node")
            continue
        there, sees, kept_out = told
        other = [f"{one} {there.get(one)} (here {here[one]})" for one in here if there.get(one) != here[one]]
        if other:
            yield Check(
                "node", "warn", f"{name}: {', '.join(other)}", "numbers may differ: the same environment on all"
            )
        if not sees:
            yield Check("node", "fail", f"{name}: it does not see {root.path}", "a root that all nodes share")
        elif not kept_out:
            yield Check("node", "fail", f"{name}: a lock of the driver's keeps it not out", "mount the root with flock")
        elif not other:
            yield Check("node", "ok", f"{name}: the same versions, sees the root and its locks")


def look(seen: Path) -> tuple[dict[str, str], bool, bool]:
    """On a node: its versions, whether it sees a file of the driver's, and whether the driver's lock keeps it out."""
    if not seen.exists():
        return versions(), False, False
    with locked(seen, wait=False) as free:
        return versions(), True, not free


def _environment() -> Iterator[Check]:
    names = sorted(name for name in os.environ if name.startswith(SEEN))
    shown = [f"{name}={'...' if any(s in name for s in SECRET) else os.environ[name]}" for name in names]
    yield Check("environment", "ok", " ".join(shown) or "none of humansim's, MLflow's or Ray's variables is set")
