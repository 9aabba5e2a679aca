"""Weight files are found where people have them, fetched where they are published, and loaded strictly and safely."""

import hashlib
import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from serving import Request, begin, head, serving
from torch import Tensor, nn

from humansim import plan
from humansim.backbones import backbone, dino, open_clip, timm, weights
from humansim.backbones.module import Backbone, initialised_by
from humansim.backbones.weights import WeightFile
from humansim.cli import main
from humansim.errors import BadInput
from humansim.root import Root
from humansim.spec import Sweep, Trial, Variant


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Caches of this test's own; gives the folder of HUMANSIM_WEIGHTS."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / ".cache"))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.setenv("HUMANSIM_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "home" / ".cache" / "huggingface"))
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


def made(name: str, **arguments: object) -> Backbone:
    found: Backbone = backbone.make(Variant(name, **arguments))
    return found.eval()


def file_of(name: str) -> WeightFile:
    (file,) = weights.files_of(backbone.normal(Variant(name)))
    return file


def resnet50() -> dict[str, Tensor]:
    from torchvision import models

    with initialised_by(7):
        return dict(models.resnet50(weights=None).state_dict())


def dino_vit() -> dict[str, Tensor]:
    """Keys and shapes of dino_vitbase16_pretrain.pth (Caron et al., release of April 2021)."""
    import timm

    with initialised_by(7):
        given = dict(timm.create_model("vit_base_patch16_224.dino", num_classes=0).state_dict())
    assert given["pos_embed"].shape == (1, 197, 768)
    assert given["blocks.11.attn.qkv.weight"].shape == (2304, 768)
    return given


def clip(architecture: str) -> dict[str, Tensor]:
    """As OpenAI's archive holds them: half precision, with three numbers beside the weights."""
    import open_clip as library

    with initialised_by(7):
        model = library.create_model(architecture, load_weights=False, force_quick_gelu=True)
    halves = {name: tensor.half() for name, tensor in model.state_dict().items()}
    numbers = {"input_resolution": 224, "context_length": 77, "vocab_size": 49408}
    return halves | {name: torch.tensor(number) for name, number in numbers.items()}


class _Node(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


def save_torchscript(tensors: dict[str, Tensor], path: Path) -> None:
    """A TorchScript archive with tensors of these names."""
    whole = _Node()
    for name, tensor in tensors.items():
        *parents, last = name.split(".")
        node: nn.Module = whole
        for parent in parents:
            if not hasattr(node, parent):
                node.add_module(parent, _Node())
            node = getattr(node, parent)
        node.register_buffer(last, tensor)
    with pytest.warns(FutureWarning, match=r"torch\.jit"):
        torch.jit.save(torch.jit.script(whole), path)


def equal(network: Backbone, tensors: dict[str, Tensor], prefix: str = "") -> None:
    own = network.trunk.state_dict()
    for name, tensor in own.items():
        assert torch.equal(tensor, tensors[prefix + name].to(tensor.dtype)), name


@pytest.mark.slow
def test_dinos_resnet50_loads_as_released(places: Path) -> None:
    released = {name: tensor for name, tensor in resnet50().items() if not name.startswith("fc.")}
    assert "layer4.2.bn3.num_batches_tracked" in released
    torch.save(released, places / "dino_resnet50_pretrain.pth")
    equal(made("dino_resnet50"), released)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["dino_vitbase16_pretrain.pth", "vit_base_patch16_224.dino.safetensors"])
def test_dinos_vit_loads_as_released(places: Path, form: str) -> None:
    released = dino_vit()
    save = save_file if form.endswith(".safetensors") else torch.save
    save(released, places / form)
    equal(made("dino_vit_b_16"), released)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "architecture"), [("clip_resnet50", "RN50"), ("clip_vit_b_16", "ViT-B-16")])
def test_clip_loads_as_released(places: Path, monkeypatch: pytest.MonkeyPatch, name: str, architecture: str) -> None:
    released = clip(architecture)
    archive = places / f"{architecture}.pt"
    save_torchscript(released, archive)
    known = hashlib.sha256(archive.read_bytes()).hexdigest()
    file = open_clip._openai(known, architecture, f"timm/{architecture}")
    with pytest.raises(BadInput, match="its SHA-256 does not begin with"):
        made(name)  # not the file that OpenAI published: it is not run
    monkeypatch.setitem(open_clip.FILES, architecture, file)
    equal(made(name), released, "visual.")
    archive.unlink()
    plain = {name: tensor.float() for name, tensor in released.items() if name not in open_clip.BESIDE}
    save_file(plain, places / f"{architecture}.safetensors")
    equal(made(name), released, "visual.")


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_weights_of_another_network_are_refused(places: Path, change: str) -> None:
    given = resnet50()
    if change == "missing":
        del given["layer1.0.conv1.weight"]
    elif change == "extra":
        given["layer9.weight"] = torch.zeros(1)
    else:
        given["conv1.weight"] = torch.zeros(64, 3, 3, 3)
    torch.save(given, places / file_of("resnet50").name)
    named = {"missing": "layer1.0.conv1", "extra": "layer9", "shape": "conv1"}[change]
    with pytest.raises(BadInput, match=rf"resnet50-0676ba61\.pth: these are weights of another network.*{named}"):
        made("resnet50")


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "safetensors", "list"])
def test_a_damaged_file_is_one_clear_error(places: Path, damage: str) -> None:
    name = "vit_base_patch16_224.dino.safetensors" if damage == "safetensors" else "dino_resnet50_pretrain.pth"
    path = places / name
    torch.save({"weight": torch.zeros(100)}, path)
    if damage == "list":
        torch.save([torch.zeros(3)], path)
    else:
        data = {"truncated": path.read_bytes()[:-200], "empty": b"", "safetensors": b"\x08" + b"\0" * 20}
        path.write_bytes(data.get(damage, b"<html>please log in</html>"))
    with pytest.raises(BadInput, match=rf"{name}: .*delete the file and fetch it again"):
        made("dino_vit_b_16" if damage == "safetensors" else "dino_resnet50")


class _Harmful:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("harm"),))


def test_a_file_that_would_run_code_is_not_run(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(places)
    (places / "dino_resnet50_pretrain.pth").write_bytes(pickle.dumps(_Harmful()))
    with pytest.raises(BadInput, match="the weights cannot be read"):
        made("dino_resnet50")
    torch.save({"a": _Harmful()}, places / "dino_resnet50_pretrain.pth")
    with pytest.raises(BadInput, match="the weights cannot be read"):
        made("dino_resnet50")
    assert not (places / "harm").exists()


def test_a_file_is_found_where_the_libraries_keep_it(places: Path, tmp_path: Path) -> None:
    cache = tmp_path / "home" / ".cache"
    for name, place in {
        "resnet50": cache / "torch" / "hub" / "checkpoints" / "resnet50-0676ba61.pth",
        "clip_resnet50": cache / "clip" / "RN50.pt",
        "alexnet": cache / "humansim" / "weights" / "alexnet-owt-7be5be79.pth",
    }.items():
        assert weights.find(file_of(name)) is None
        place.parent.mkdir(parents=True)
        place.touch()
        assert weights.find(file_of(name)) == place
    hub = cache / "huggingface" / "models--timm--vit_base_patch16_224.dino"
    (hub / "snapshots" / "abc").mkdir(parents=True)
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text("abc")
    blob = hub / "blobs" / hashlib.sha256(b"weights").hexdigest()
    blob.parent.mkdir()
    blob.write_bytes(b"weights")
    link = hub / "snapshots" / "abc" / "model.safetensors"
    link.symlink_to(blob)
    assert weights.find(file_of("dino_vit_b_16")) == link
    assert weights.verify(file_of("dino_vit_b_16")) == link
    blob.write_bytes(b"weight5")
    with pytest.raises(BadInput, match="delete it and fetch it again"):
        weights.verify(file_of("dino_vit_b_16"))
    own = places / "resnet50-0676ba61.pth"
    own.touch()
    assert weights.find(file_of("resnet50")) == own  # the user's folder comes first


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, dict[str, bytes]]]:
    files: dict[str, bytes] = {}

    def answer(request: Request) -> None:
        data = None if "/gone/" in request.path else files.get(request.path.rpartition("/")[2])
        if data is None:
            head(request, 404, Content_Length=0)
        else:
            request.wfile.write(begin(request, data))

    with serving(answer) as url:
        yield url, files


def test_a_missing_file_is_fetched_once_and_verified_ever_after(places: Path, server) -> None:
    url, files = server
    files["net.pth"] = b"weights" * 1000
    file = WeightFile.at(f"{url}/net.pth")
    assert weights.verify(file) is None
    path = weights.fetch(file)
    assert path == places / "net.pth"
    assert path.read_bytes() == files["net.pth"]
    files.clear()
    assert weights.fetch(file) == weights.verify(file) == path
    path.write_bytes(b"weights" * 999 + b"weight5")
    with pytest.raises(BadInput, match="delete it and fetch it again"):
        weights.verify(file)


def test_the_digits_in_a_files_name_are_checked(places: Path, server) -> None:
    url, files = server
    data = b"weights" * 1000
    right = f"net-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    files |= {right: data, "net-01234567.pth": data}
    assert weights.fetch(WeightFile.at(f"{url}/{right}")).read_bytes() == data
    with pytest.raises(BadInput, match="its SHA-256 is"):
        weights.fetch(WeightFile.at(f"{url}/net-01234567.pth"))
    assert not (places / "net-01234567.pth").exists()


def test_another_form_will_do(places: Path, server) -> None:
    url, files = server
    files["own.pt"] = b"weights"
    file = WeightFile("hub.safetensors", (f"{url}/hub.safetensors",), or_else=WeightFile.at(f"{url}/own.pt"))
    assert weights.fetch(file) == weights.find(file) == places / "own.pt"
    with pytest.raises(BadInput, match=r"none\.pth.*HTTP 404.*other\.pth.*HTTP 404"):
        weights.fetch(WeightFile("none.pth", (f"{url}/none.pth",), or_else=WeightFile.at(f"{url}/other.pth")))


def test_the_command_lists_fetches_from_a_mirror_and_verifies(
    places: Path, server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url, files = server
    monkeypatch.setattr(dino, "RESNET50", WeightFile.at(f"{url}/gone/dino_resnet50_pretrain.pth"))
    assert main(["weights", "list", "dino_resnet50", "--json"]) == 0
    assert [row["there"] for row in json.loads(capsys.readouterr().out)] == ["no"]
    assert main(["weights", "fetch", "dino_resnet50", "--mirror", url]) == 2
    assert "dino_resnet50_pretrain.pth could not be fetched" in capsys.readouterr().err
    files["dino_resnet50_pretrain.pth"] = b"weights"
    assert main(["weights", "fetch", "dino_resnet50", "--mirror", url]) == 0
    assert str(places) in capsys.readouterr().out
    assert main(["weights", "list", "dino_resnet50"]) == 0
    assert "All files are there" in capsys.readouterr().out
    assert main(["weights", "verify", "dino_resnet50"]) == 0
    (places / "dino_resnet50_pretrain.pth").write_bytes(b"weight5")
    assert main(["weights", "verify", "dino_resnet50"]) == 2
    assert main(["weights", "list", "resnet5"]) == 2
    assert "did you mean resnet50" in capsys.readouterr().err


def test_what_is_known_of_files_without_a_library_is_what_the_library_has(monkeypatch: pytest.MonkeyPatch) -> None:
    for family in (timm, open_clip):
        known = family.KNOWN
        monkeypatch.setattr(family, "KNOWN", {})
        assert known == {name: file for name in known for file in family._files(name)}
        assert set(known) <= set(family._names())


def test_a_plan_tells_which_files_are_missing(places: Path, root: Root, capsys: pytest.CaptureFixture[str]) -> None:
    twins = [Variant("alexnet", weights="random"), "pixels", "efficientnet_lite0"]
    sweep = Sweep(name="some", base=Trial(), grid={"backbone": ["alexnet", "dino_resnet50", *twins]})
    missing = plan.missing_weights(plan.cells(sweep))
    assert [file.name for file in missing] == ["alexnet-owt-7be5be79.pth", "dino_resnet50_pretrain.pth"]
    (places / "dino_resnet50_pretrain.pth").touch()
    assert [file.name for file in plan.missing_weights(plan.cells(sweep))] == ["alexnet-owt-7be5be79.pth"]
    assert main(["plan", "pretrained", "--root", str(root.path)]) == 0
    assert "Weights that are not on this machine: resnet50-0676ba61.pth" in capsys.readouterr().out
    assert main(["weights", "list", "pretrained", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 11
