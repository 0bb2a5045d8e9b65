"""The commands and the Python of the README and docs/, run as they stand there, in a folder that has what they name."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pictures import encoded, group_photo, picture
from tests.s3_server import S3Server
from uniface_ray.core.storage import Folder
from uniface_ray.evaluate.attribute_net import AttributeNet
from uniface_ray.evaluate.claims import VALUES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
ROOT = Path(__file__).parents[1]
PAGES = "".join(page.read_text() for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))])
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGES, re.MULTILINE | re.DOTALL)
# Those that end by themselves; what the others need (a cluster, a server, a data set) their own tests have.
COMMANDS = (
    *("caption", "vqa", "generate", "edit", "score", "evaluate", "tokenize", "train"),
    *("status", "verify", "replay-rejects"),
)
# The test server lets nobody in without keys.
LEFT_OUT = ("storage.anonymous=true",)


def _shell_lines() -> list[str]:
    lines = "".join(text for kind, text in BLOCKS if not kind).replace("\\\n", " ").splitlines()
    typed = [line for line in lines if re.match(rf"\.venv/bin/uniface ({'|'.join(COMMANDS)}) ", line)]
    return [line for line in typed if not any(words in line for words in LEFT_OUT)]


def _fill(home: Path, server: S3Server, portraits: list[bytes]) -> None:
    """The files and buckets that they name."""
    for folder in ("faces", "photos/faces"):
        (home / folder).mkdir(parents=True)
        for number, data in enumerate(portraits[:4]):
            (home / folder / f"portrait_{number}.jpg").write_bytes(data)
    (home / "face.jpg").write_bytes(portraits[0])
    (home / "photos/group.jpg").write_bytes(
        encoded(group_photo(portraits[::5], [(250, 300, 300, 0), (800, 350, 260, 10)]))
    )
    prompts = ["a smiling woman with blond hair", "an older man"]
    (home / "prompts.jsonl").write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    (home / "prompts.csv").write_text("prompt\n" + "".join(f"{prompt}\n" for prompt in prompts))
    faces = {"image": portraits[:4], "id": [1, 2, 3, 4], "caption": prompts * 2, "questions": [["Is she smiling?"]] * 4}
    pq.write_table(pa.table(faces), home / "faces.parquet")
    known = {"gender": ["female", "male"] * 2, "age": [30, 60, 41, 8], "smile": [1, 0, 1, 0]}
    asked = {"question": ["Is this a man?"] * 4, "right": ["no", "yes"] * 2}
    pq.write_table(pa.table({"image": portraits[:4], **known, **asked}), home / "labelled.parquet")
    AttributeNet(VALUES).save(home / "judge")
    labelled = {"image": portraits[:4], "gender": ["male"] * 4, "age": ["middle-aged"] * 4, "smile": ["no"] * 4}
    asked = {"question": ["Is this person smiling?"] * 4, "right": ["no"] * 4}
    pq.write_table(pa.table(labelled | asked), home / "labelled.parquet")
    mask = picture(1, (320, 320)).point(lambda value: 255)
    masked = {"image": portraits[:1], "mask": [encoded(mask, "PNG")], "prompt": prompts[:1]}
    pq.write_table(pa.table(masked), home / "t.parquet")
    for bucket in ("my-bucket", "faces", "captions", "bucket"):
        server.bucket(bucket)
    for uri in ("s3://my-bucket/faces", "s3://faces"):
        for number, data in enumerate(portraits[:3]):
            Folder(uri, server.storage).write(f"portrait_{number}.jpg", data)
    Folder("s3://my-bucket/faces", server.storage).write("broken.jpg", b"")


def test_what_people_are_told_to_type_works(s3: S3Server, portraits: list[bytes], tmp_path: Path) -> None:
    _fill(tmp_path, s3, portraits)
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_"))}
    environment |= {
        "HOME": str(tmp_path),
        "AWS_ENDPOINT_URL": s3.endpoint,
        "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key,
    }
    lines = _shell_lines()
    assert {line.split()[1] for line in lines} == set(COMMANDS)
    wrong = []
    for line in lines:
        words = line.replace("http://localhost:9000", s3.endpoint)
        done = subprocess.run(words, shell=True, cwd=tmp_path, env=environment, text=True, capture_output=True)
        print(f"{done.returncode}: {line}", flush=True)
        if done.returncode:
            wrong.append(f"{line}\nexit code {done.returncode}\n{done.stdout}{done.stderr}")
    assert not wrong, "\n\n".join(wrong)


def test_its_python_works(portraits: list[bytes], tmp_path: Path) -> None:
    (tmp_path / "face.jpg").write_bytes(portraits[0])
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces/face.jpg").write_bytes(portraits[0])
    for kind, text in BLOCKS:
        if kind == "python" and "http" not in text:
            done = subprocess.run([sys.executable, "-c", text], cwd=tmp_path, text=True, capture_output=True)
            assert done.returncode == 0, text + done.stderr
    assert (tmp_path / "drawn.png").exists()
    assert (tmp_path / "out/faces/manifest.json").exists()
