"""One JSON file as a sandbox's memory: read at start, replaced whole after each change."""
import json
import os
from pathlib import Path


def read(path, default):
    """The value in the file, or `default` when there is no path or no file yet."""
    if path is None or not Path(path).exists():
        return default
    return json.loads(Path(path).read_text("utf-8"))


def write(path, value):
    """The file holds `value`; a crash leaves the old file or the new one, never half of one. No path: nothing happens."""
    if path is None:
        return
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(json.dumps(value, separators=(",", ":")), "utf-8")
    os.replace(fresh, path)
