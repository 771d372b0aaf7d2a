"""One JSON file as a sandbox's memory: read at start, replaced whole when something has changed."""
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
    if path is not None:
        write_text(path, json.dumps(value, separators=(",", ":")))


def write_text(path, text):
    """The file holds the JSON `text`, as `write`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text, "utf-8")
    os.replace(fresh, path)
