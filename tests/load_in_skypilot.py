"""Loads a task file by SkyPilot's own loader, in its own Python: load_in_skypilot.py FILE NAME=VALUE ...

It would download a catalog of accelerators; without a network a catalog of the one that is asked for stands in.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

import yaml

home = tempfile.mkdtemp()
os.environ |= {"HOME": home, "SKY_RUNTIME_DIR": home, "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
from sky.catalog import common  # noqa: E402

[(kind, _)] = [yaml.safe_load(Path(sys.argv[1]).read_text())["resources"]["accelerators"].split(":")]
for name, text in (
    ("accelerators", f"AcceleratorName,Clouds\n{kind},\"['GCP']\"\n"),
    ("metadata", f"GPU,Memory\n{kind},24\n"),
):
    path = Path(common.get_catalog_path(f"common/{name}.csv"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)

import sky  # noqa: E402

task = sky.Task.from_yaml_config(
    yaml.safe_load(Path(sys.argv[1]).read_text()), env_overrides=[tuple(word.split("=", 1)) for word in sys.argv[2:]]
)
[resources] = task.resources
mounts = {where: [storage.name, storage.mode.value] for where, storage in task.storage_mounts.items()}
told = {"nodes": task.num_nodes, "accelerators": resources.accelerators, "envs": task.envs, "mounts": mounts}
sys.stdout.write(json.dumps(told | {"spot": resources.use_spot}) + "\n")
