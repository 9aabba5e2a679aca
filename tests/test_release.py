"""What is released: it says everywhere which version it is, and a wheel has all that a user needs."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import humansim

HERE = Path(__file__).parents[1]
PROJECT = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]


def test_one_version() -> None:
    citation = yaml.safe_load((HERE / "CITATION.cff").read_text())
    assert PROJECT["version"] == humansim.__version__ == citation["version"]
    assert f"\n## {PROJECT['version']}" in (HERE / "CHANGELOG.md").read_text()
    assert citation["license"] == PROJECT["license"]


@pytest.mark.slow
def test_a_wheel_works_without_the_checkout(tmp_path: Path) -> None:
    subprocess.run(["uv", "build", "--quiet", "--wheel", "--out-dir", tmp_path, HERE], check=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as file:
        file.extractall(installed)
    assert (installed / "humansim" / "py.typed").exists()
    license_file = installed / f"humansim-{PROJECT['version']}.dist-info" / "licenses" / "LICENSE"
    assert license_file.read_text() == (HERE / "LICENSE").read_text()
    code = f"""
import sys
sys.path = [{str(installed)!r}, *(p for p in sys.path if p != {str(HERE)!r})]  # before the checkout, which is editable
import analysis, humansim
assert humansim.__file__.startswith({str(installed)!r}) and analysis.__file__.startswith({str(installed)!r})
from humansim.cli import main
sys.exit(main(["plan", "full_small", "--root", {str(tmp_path / "runs")!r}]))
"""
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert "624 trials in 624 cells; 624 to run" in ran.stdout
