"""Files of pretrained weights: where they are published, where they lie on this machine, fetched and loaded safely.

A file is looked for, in this order, in
1. `HUMANSIM_WEIGHTS`, if that is set: a folder with the files under their own names;
2. humansim's own cache, `~/.cache/humansim/weights` (`XDG_CACHE_HOME`): what `fetch` downloads if 1 is not set;
3. the caches of the libraries: torch.hub's (`TORCH_HOME`), Hugging Face's (`HF_HOME`), CLIP's (`~/.cache/clip`).

Nothing here imports torch until weights are loaded, so that a plan can tell what is missing.
"""

import contextlib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from humansim.backbones import backbone
from humansim.download import Download, Progress, recorded, sha256_of
from humansim.download import fetch as download
from humansim.errors import BadInput
from humansim.spec import Variant

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

HUB = "https://huggingface.co"
_elsewhere = ContextVar("weights come from elsewhere", default=False)


@contextlib.contextmanager
def given_elsewhere() -> Iterator[None]:
    """Backbones made inside have the form of their published weights, and others in it: no file is looked for."""
    token = _elsewhere.set(True)
    try:
        yield
    finally:
        _elsewhere.reset(token)


def wanted() -> bool:
    """Whether published weights are to be loaded: not inside `given_elsewhere`."""
    return not _elsewhere.get()


@dataclass(frozen=True)
class WeightFile:
    """A published file of weights.

    Attributes:
        name: its name in a folder of weights.
        urls: where it is published, in the order to try.
        sha256: of the file, or as many of its first digits as the publisher tells; None if he tells none: then it is
            recorded at the first download and checked ever after.
        hub: repository and file on the Hugging Face Hub, if it is there.
        or_else: another form in which the same weights are published, which will do as well.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str | None = None
    hub: tuple[str, str] | None = None
    or_else: "WeightFile | None" = None

    @classmethod
    def at(cls, url: str) -> "WeightFile":
        """A file as torch.hub publishes it: `<name>-<first digits of its SHA-256>.pth`."""
        name = url.rpartition("/")[2]
        digits = name.rpartition(".")[0].rpartition("-")[2]
        known = len(digits) >= 8 and all(digit in "0123456789abcdef" for digit in digits)
        return cls(name, (url,), digits if known else None)

    @classmethod
    def on_hub(
        cls, repository: str, file: str = "model.safetensors", or_else: "WeightFile | None" = None
    ) -> "WeightFile":
        """A file on the Hugging Face Hub, called as its repository in a folder of weights."""
        name = f"{repository.rpartition('/')[2]}{Path(file).suffix}"
        return cls(name, (f"{HUB}/{repository}/resolve/main/{file}",), hub=(repository, file), or_else=or_else)

    @property
    def forms(self) -> "tuple[WeightFile, ...]":
        """This file and the other forms of it."""
        return (self, *(self.or_else.forms if self.or_else else ()))


def files_of(variant: Variant) -> tuple[WeightFile, ...]:
    """The files that a backbone loads when it is made; none if its weights are random or come with a package.

    Raises:
        BadInput: unknown backbone.
    """
    entry = backbone.entry(variant)
    find: Callable[..., Iterable[WeightFile]] | None = entry.facts.get("files")
    if find is None or variant.kwargs.get("weights") == "random":
        return ()
    member = variant.name.partition(":")[2]
    return tuple(find(*([member] if member else []), **variant.kwargs))


def folder() -> Path:
    """Where downloaded weights go."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("HUMANSIM_WEIGHTS") or cache / "humansim" / "weights").absolute()


def find(file: WeightFile) -> Path | None:
    """Where a file, or another form of it, lies on this machine; None if nowhere."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    torch_hub = Path(os.environ.get("TORCH_HOME") or cache / "torch") / "hub" / "checkpoints"
    places = (folder(), cache / "humansim" / "weights", torch_hub, Path.home() / ".cache" / "clip")
    for form in file.forms:
        for place in places:
            if (place / form.name).is_file():
                return place / form.name
        if form.hub is not None:
            from huggingface_hub import try_to_load_from_cache

            found = try_to_load_from_cache(*form.hub)
            if isinstance(found, str):
                return Path(found)
    return None


def fetch(file: WeightFile, progress: Progress | None = None, mirror: str | None = None) -> Path:
    """Where a file lies, after it was downloaded if it was nowhere; processes that race for it wait for the first.

    Args:
        progress: called with bytes done and bytes in all, if known.
        mirror: a base URL, or a folder, that is tried before the published addresses.

    Raises:
        BadInput: it could not be had; the message says from where, and where to put it by hand.
    """
    found = find(file)
    reasons = []
    for form in file.forms if found is None else ():
        try:
            published = Download(form.name, form.urls, sha256=form.sha256)
            return download(published, folder(), mirror=mirror, progress=progress)
        except BadInput as error:
            reasons.append(str(error))
    if found is None:
        raise BadInput("; ".join(reasons))
    return found


def verify(file: WeightFile) -> Path | None:
    """Where a file lies, its SHA-256 compared with what is published or was recorded; None if it is nowhere.

    Raises:
        BadInput: it is another file, or damaged.
    """
    found = find(file)
    if found is None:
        return None
    published = next((form.sha256 for form in file.forms if form.name == found.name), None)
    blob = found.resolve().name  # Hugging Face's cache keeps a large file under its SHA-256
    wanted = published or (blob if len(blob) == 64 else recorded(found))
    if wanted is not None and not sha256_of(found).startswith(wanted):
        raise BadInput(f"{found}: its SHA-256 does not begin with {wanted[:16]}; delete it and fetch it again")
    return found


def load(file: WeightFile) -> "dict[str, Tensor]":
    """The tensors of a file by name, without running anything that it may hold; downloaded if it is nowhere.

    A TorchScript archive, the form in which OpenAI publishes CLIP, can only be read by running it: it is, if its
    SHA-256 is the published one.

    Raises:
        BadInput: it cannot be had, or it is damaged.
    """
    import torch

    path = fetch(file)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        if _is_torchscript(path):
            if not any(form.name == path.name and len(form.sha256 or "") == 64 for form in file.forms):
                raise BadInput(
                    f"{path}: a TorchScript archive can run code; without a published SHA-256 it is not read"
                )
            verify(file)
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore", FutureWarning
                )  # torch.jit is to go; OpenAI's archives are what they are
                held: dict[str, Tensor] = torch.jit.load(path, map_location="cpu").state_dict()  # type: ignore[no-untyped-call]
            return held
        given = torch.load(path, map_location="cpu", weights_only=True)
    except BadInput:
        raise
    except Exception as error:  # safetensors, zipfile and pickle have errors of their own
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise BadInput(f"{path}: the weights cannot be read ({reason}); delete the file and fetch it again") from None
    if not isinstance(given, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in given.values()):
        raise BadInput(f"{path}: it holds no tensors by name; delete the file and fetch it again")
    return given


def load_into(module: "Module", file: WeightFile) -> None:
    """Loads a file into a module, strictly: every name and shape has to fit.

    Raises:
        BadInput: it cannot be had, it is damaged, or it does not fit.
    """
    if wanted():
        loaded_into(module, load(file), file)


def loaded_into(module: "Module", tensors: "dict[str, Tensor]", file: WeightFile) -> None:
    """Puts the tensors of a file into a module, strictly.

    Raises:
        BadInput: naming what does not fit.
    """
    try:
        module.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        raise BadInput(f"{find(file)}: these are weights of another network: {' '.join(lines)[:300]}") from None


def _is_torchscript(path: Path) -> bool:
    import zipfile

    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.rpartition("/")[2] == "constants.pkl" for name in archive.namelist())
