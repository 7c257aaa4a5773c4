"""The recipe of docs/library.md for a fork's script, run beside a `model.py` as the official one is called."""

import os
import re
import subprocess
import sys

from tests.conftest import ROOT

PRELUDE = """
import sys, torch, sci_kernels, forks
torch.manual_seed(0)
images = torch.rand(1, 3, 12, 13) * 0.3
model = forks.Network(forks.LossFunction())
from bench.networks.official_script import OfficialNetwork
theirs = OfficialNetwork()
for name in [name for name in sys.modules if name.partition(".")[0] == "model"]:
    del sys.modules[name]  # as it is in a script that has not imported it
sys.path = [place for place in sys.path if place != {root!r}]
"""
CHECK = """
assert isinstance(model._criterion, sci_kernels.LossFunction)
loss.backward()
assert abs(float(loss) / float(theirs._loss(images)) - 1) < 1e-6
theirs.load_state_dict(network.state_dict())
print("done")
"""


def test_the_recipe_runs_beside_a_file_called_model(tmp_path):
    text = (ROOT / "docs" / "library.md").read_text("utf-8").partition("## The whole gain")[2]
    recipe = re.search(r"```python\n(.*?)```", text, re.S)[1]
    assert '"path/to/sci-kernels"' in recipe
    recipe = recipe.replace('"path/to/sci-kernels"', repr(str(ROOT)))
    (tmp_path / "model.py").write_text("raise ImportError('the official one')\n")
    script = tmp_path / "train.py"
    script.write_text(PRELUDE.format(root=str(ROOT)) + f"sys.path.insert(0, {str(tmp_path)!r})\n" + recipe + CHECK)
    # The prelude is from here, and loads what it needs before the script's own folder counts.
    command = (
        f"import runpy, sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]; runpy.run_path({str(script)!r})"
    )
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", command], cwd=tmp_path, env=clean, capture_output=True, text=True)
    assert done.stdout.endswith("done\n"), done.stderr[-2000:]
