"""The files that start clusters, as far as they can be tried without a cloud; a sweep submitted as a job."""

import os
import runpy
import subprocess
import sys
import tarfile
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from nodes import Nodes, free_port, ray
from sweeping import environment, finished

from humansim.errors import BadInput
from humansim.launch.cluster import connected
from humansim.root import Root

TOP = Path(__file__).parent.parent
LAUNCHED = ["cluster.yaml", "clusters/gcp.yaml"]
SCRIPTS = ["mlflow.sh", "node.sh", "slurm.sh"]


def read(name: str) -> Any:
    return yaml.safe_load((TOP / name).read_text())


def test_that_nobody_listens_at_an_address_is_told_at_once() -> None:
    nobody = f"127.0.0.1:{free_port()}"
    with pytest.raises(BadInput, match=f"no Ray cluster answers at {nobody}: Connection refused"), connected(nobody):
        pass


@pytest.mark.parametrize("name", LAUNCHED)
def test_ray_finds_nothing_wrong(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(read(name)))
    wrong = read(name)
    wrong["available_node_types"]["gpu"]["min_worker"] = 1
    with pytest.raises(Exception, match="'min_worker' was unexpected"):
        validate_config(prepare_config(wrong))


@pytest.mark.parametrize("name", LAUNCHED)
def test_trials_run_on_spot_workers_only_and_one_is_always_there(name: str) -> None:
    types = read(name)["available_node_types"]
    assert types["head"]["resources"]["CPU"] == 0
    assert types["gpu"]["min_workers"] >= 1  # what a sweep wants is compared with what is there when it starts
    node = types["gpu"]["node_config"]
    assert node.get("InstanceMarketOptions") == {"MarketType": "spot"} or {"preemptible": True} in node["scheduling"]


@pytest.mark.parametrize("name", LAUNCHED)
def test_all_that_the_build_needs_goes_along(name: str) -> None:
    mounts = read(name)["file_mounts"]
    project = tomllib.loads((TOP / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {
        "pyproject.toml",
        "uv.lock",
        "clusters",
        project["project"]["readme"],
        *project["project"]["license-files"],
    }
    needed |= {*wheel["packages"], *wheel["force-include"]}
    assert needed == {local for remote, local in mounts.items() if remote.startswith("~/humansim/")}
    assert all(remote == f"~/humansim/{local}" for remote, local in mounts.items() if local in needed)
    # Both clouds run the same: they differ in their machines.
    assert mounts == read("cluster.yaml")["file_mounts"]


def test_amazon_knows_every_field_of_a_machine() -> None:
    session = pytest.importorskip("botocore.session", reason="uv run --extra aws pytest")
    from botocore.validate import ParamValidator

    shape = session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    for kind in read("cluster.yaml")["available_node_types"].values():
        found = ParamValidator().validate({**kind["node_config"], "MinCount": 1, "MaxCount": 1}, shape)
        assert not found.has_errors(), found.generate_report()


def test_the_job_on_kubernetes_has_what_kuberay_requires() -> None:
    """Its schema is not at hand here; the operator holds the file against it."""
    job = read("clusters/kuberay.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    head, (workers,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert head["rayStartParams"] == {"num-cpus": "0"}
    assert workers["minReplicas"] >= 1
    for group in (head, workers):
        pod = group["template"]["spec"]
        mounted = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
        assert mounted == {"shared": "/shared", "staged": "/staged"}
        assert {volume["name"] for volume in pod["volumes"]} == set(mounted)
        assert pod["containers"][0]["image"] == pod["initContainers"][0]["image"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_hold_before_shellcheck(script: str) -> None:
    file = TOP / "clusters" / script
    assert os.access(file, os.X_OK)
    subprocess.run(["bash", "-n", str(file)], check=True)
    shellcheck = Path(sys.executable).with_name("shellcheck")
    found = subprocess.run([str(shellcheck), str(file)], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    image = tmp_path / "shared" / "data" / "shoes" / "a.jpg"
    image.parent.mkdir(parents=True)
    image.write_text("a")
    os.utime(image, ns=(0, 1_600_000_000_123_456_789))
    made = tmp_path / "staged.tar"
    with tarfile.open(made, "w") as tar:
        tar.add(tmp_path / "shared" / "data", "data")
    return made


def test_an_archive_is_unpacked_once_and_its_files_keep_their_time(archive: Path, tmp_path: Path) -> None:
    stage = runpy.run_path(str(TOP / "clusters" / "stage.py"))["stage"]
    one, other = tmp_path / "one", tmp_path / "other"
    assert "is unpacked" in stage(str(archive), one)
    assert "is unpacked" in stage(archive.as_uri(), other)
    images = [folder / "data" / "shoes" / "a.jpg" for folder in (one, other)]
    assert images[0].stat().st_mtime_ns == images[1].stat().st_mtime_ns  # else each node would read all files again
    images[0].write_text("mine")
    assert "already" in stage(str(archive), one)
    assert images[0].read_text() == "mine"
    with tarfile.open(archive, "a") as tar:
        tar.add(archive.parent / "shared" / "data" / "shoes" / "a.jpg", "data/shoes/b.jpg")
    assert "is unpacked" in stage(str(archive), one)
    assert (one / "data" / "shoes" / "b.jpg").exists()
    assert "is not there" in stage(str(tmp_path / "none.tar"), tmp_path / "none")


SWEEP = """
from humansim.spec import Sweep, Trial, Variant

SWEEP = Sweep(
    name="four",
    base=Trial(source=Variant("sample", queries=24, pairs=2), backbone=Variant("miniature:resnet50"), resolution=64,
               fit_size=16, batch_size=8, epochs=2, threads=1),
    grid=[{"backbone": ["pixels"]}, {"paradigm": ["triplet"], "lr": [1e-4, 1e-3, 1e-2]}],
)
"""


@pytest.mark.slow
def test_a_sweep_is_submitted_as_a_job(tmp_path: Path) -> None:
    file = tmp_path / "four.py"
    file.write_text(SWEEP)
    dashboard = free_port()
    nodes = Nodes(f"--dashboard-port={dashboard}", HUMANSIM_ROOT=str(tmp_path / "root"))
    try:
        nodes.add("--num-cpus=2")
        submit = ray("job", "submit", "--address", f"http://127.0.0.1:{dashboard}", "--")
        for _ in range(10):
            done = subprocess.run(
                [*submit, "humansim", "sweep", str(file)],
                env=environment(**nodes.secret),
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            if "No available agent" not in done.stderr:  # Ray says so in its first seconds
                break
            time.sleep(2)
    finally:
        nodes.stop()
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(finished(file, Root.at(tmp_path / "root"))) == 4
