"""What is installed from a wheel works from any folder: commands, groups, experiments, sweeps, prompts."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """An environment in which only the wheel's files are Errata."""
    place = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(place), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
    (wheel,) = place.glob("errata-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place / "site")
    return {**os.environ, "PYTHONPATH": str(place / "site")}, place / "site"


def test_it_holds_every_config_prompt_and_module(installed):
    _, site = installed
    for source, packed in (
        ("conf", "errata/conf"),
        ("experiments", "errata/conf/experiments"),
        ("sweeps", "errata/conf/sweeps"),
    ):
        names = {path.relative_to(ROOT / source) for path in (ROOT / source).rglob("*.yaml")}
        assert names
        assert names <= {path.relative_to(site / packed) for path in (site / packed).rglob("*.yaml")}
    for pattern in ("*.py", "*.txt", "*.json", "*.jsonl", "*.jinja", "*.css", "*.js", "py.typed"):
        names = {path.relative_to(ROOT / "src/errata") for path in (ROOT / "src/errata").rglob(pattern)}
        assert names <= {path.relative_to(site / "errata") for path in (site / "errata").rglob(pattern)}


@pytest.mark.slow
def test_it_runs_from_another_folder(installed, tmp_path):
    environment, site = installed
    command = [sys.executable, "-m", "errata.cli", "improve", "experiments=demo", "sweeps=seeds", "dry_run=true"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "plan for demo_seeds: 3 cells" in done.stdout
    where = "import errata; print(errata.__file__)"
    used = subprocess.run([sys.executable, "-c", where], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert used.stdout.startswith(str(site))
