"""docs/online.md: what it tells to type, against a running server."""

import json
import re
import subprocess
import sys
from pathlib import Path

from tests.serve.conftest import Configure, serving
from uniface_ray.serve.app import build_app
from uniface_ray.serve.loop import EngineLoop

SECTION = (Path(__file__).parents[2] / "docs" / "online.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)


def test_what_the_readme_says_of_the_endpoint_works(
    configure: Configure, loop: EngineLoop, portraits: list[bytes], tmp_path: Path
) -> None:
    (tmp_path / "face.jpg").write_bytes(portraits[0])
    commands = [line for kind, text in BLOCKS if not kind for line in text.splitlines() if line.startswith("curl")]
    programs = [text for kind, text in BLOCKS if kind == "python"]
    assert len(commands) >= 2
    assert programs
    app = build_app(configure("model.name=uniface-tiny", f"files.path={tmp_path}/files"), {"uniface-tiny": loop})
    app.state.batches._start = lambda batch, attempt: None  # what becomes of it, test_batches tells
    with serving(app) as url:
        for command in commands:
            typed = command.replace("http://localhost:8000", url)
            done = subprocess.run(typed, shell=True, cwd=tmp_path, text=True, capture_output=True)
            assert json.loads(done.stdout)["data"][0]["b64_json"], (command, done.stdout, done.stderr)
        for text in programs:
            typed = text.replace("http://localhost:8000", url)
            done = subprocess.run([sys.executable, "-c", typed], cwd=tmp_path, text=True, capture_output=True)
            assert (done.returncode, bool(done.stdout)) == (0, True), text + done.stderr
    assert (tmp_path / "online.png").read_bytes().startswith(b"\x89PNG")
