#!/usr/bin/env python3
"""Write the OpenAPI documents and the JSON Schemas of scripts, scenarios, states and seed files to `openapi/` from the code; with `--check`,
fail if one is stale. The examples in the documents are those of `openapi/examples.json`; with `--examples` the server is run
to make these anew, or to check them too.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tools.openapi.examples import examples, illustrate
from workyard.app import create_app
from workyard.contract.describe import documents_of, text_of
from workyard.faults.scenarios import SCHEMA_FILE as SCENARIO_FILE
from workyard.faults.scenarios import scenario_schema
from workyard.settings import Settings
from workyard.state.seed_shape import SCHEMA_FILE as SEED_FILE
from workyard.state.seed_shape import seed_schema
from workyard.state.shape import SCHEMA_FILE as STATE_FILE
from workyard.state.shape import state_schema
from workyard_queue.agent import SCHEMA_FILE, script_schema

FOLDER = Path(__file__).resolve().parents[2] / "openapi"


def main(arguments: list[str]) -> int:
    """Write or check the documents; return the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/openapi", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a document is stale")
    parser.add_argument("--examples", action="store_true", help="make the examples from a running server first")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the documents are (openapi/)")
    options = parser.parse_args(arguments)
    stale = False
    folder: Path = options.folder
    folder.mkdir(exist_ok=True)
    built = documents_of(create_app(Settings()))
    shown = folder / "examples.json"
    found = examples(*built.values()) if options.examples else json.loads(shown.read_text(encoding="utf-8"))
    for document in built.values():
        illustrate(document, found)
    documents = {shown.name: text_of(found)} | {name: text_of(document) for name, document in built.items()}
    documents |= {SCHEMA_FILE: script_schema(), SCENARIO_FILE: scenario_schema()}
    documents |= {STATE_FILE: state_schema(), SEED_FILE: seed_schema()}
    for name, text in documents.items():
        path = folder / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if options.check:
            print(f"openapi/{name} is stale: run scripts/openapi --examples and commit the result", file=sys.stderr)
            stale = True
        else:
            path.write_text(text, encoding="utf-8")
            print(f"wrote openapi/{name}")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
