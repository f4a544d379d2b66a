"""What the README shows in full works as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()


@pytest.mark.slow
def test_the_strategy_that_the_readme_adds_runs(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (config,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "my_conf" / "strategy").mkdir(parents=True)
    (tmp_path / "my_strategies.py").write_text(code)
    own = config.replace("errata.strategy.capped.", "my_strategies.")
    (tmp_path / "my_conf" / "strategy" / "capped.yaml").write_text(own)
    shown = subprocess.run(
        [Path(sys.executable).with_name("errata"), "improve", "--config-dir", "my_conf", "strategy=capped", "strategy.cap=3",
         "dry_run=true"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": "."}, capture_output=True, text=True,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    assert "at most 30 requests" in shown.stdout  # three of each of ten skills


def test_every_setting_in_the_readme_exists():
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from errata.config import config_folder, register

    register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        for command in re.findall(r"^errata ((?:improve|evaluate|train)\b.*?[^\\])$", README, re.MULTILINE | re.DOTALL):
            words = command.partition("#")[0].replace("\\\n", " ").split()
            overrides = [word for word in words[1:] if word != "-m"]
            single = [re.sub(r"=(\w+),\S+", r"=\1", word) for word in overrides]  # a sweep's first cell
            compose(words[0], overrides=single)
