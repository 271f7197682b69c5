"""JSON files that are whole or absent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from erray.store.folder import Folder


def write_json(path: Path, data: Any) -> None:
    """Write ``data`` as the file ``path``, replacing one that is there.

    Raises:
        UserError: the storage fails three times.
    """
    text = json.dumps(data, indent=1) + "\n"
    Folder(str(path.parent)).write(path.name, lambda file: file.write(text.encode()))
