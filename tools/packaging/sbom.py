"""Makes the SBOM that cyclonedx-py writes of a lock fit to be kept: each component by its package URL, and no index named."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def kept(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document without what names where releases came from: the lock has their hashes."""
    names = {each["bom-ref"]: each["purl"] for each in document["components"]}
    components = [
        {"bom-ref": each["purl"]} | {name: each[name] for name in ("name", "purl", "type", "version")}
        for each in document["components"]
    ]
    for tool in document["metadata"]["tools"]["components"]:
        tool.pop("externalReferences", None)
    root = document["metadata"]["component"]
    links = [{"ref": purl} for purl in sorted(names.values())]
    links.append({"ref": root["bom-ref"], "dependsOn": sorted(names.values())})
    return document | {"components": components, "dependencies": links}


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(json.dumps(kept(json.loads(path.read_text())), indent=2, sort_keys=True) + "\n")
