"""Requests that mean a server no good. Each is wrong for certain; all are seeded.

A server under attack has `SETTINGS`, and the model `random`.
"""

import gzip
import json
import random
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from PIL import Image

from tests.pictures import bomb, encoded, odd_files, picture
from tests.serve.test_batch_lines import CHAT, EDITS, IMAGES
from tests.serve.test_chat import FACE, about, url

MOST = 2**20
SETTINGS = (
    f"guard.max_body_bytes={MOST}",
    "guard.body_timeout_s=30",  # a good request is answered meanwhile, on a busy machine too
    "guard.decoders=1",
    "decode.max_pixels=1000000",
    "decode.max_bytes=300000",
    f"files.max_bytes={MOST}",
)
JSON = "application/json"
FORM = "multipart/form-data; boundary=edge"
FILES, BATCHES = "/v1/files", "/v1/batches"
BOX = [0, 0, 1, 1]


@dataclass(frozen=True)
class Attack:
    """One request.

    Attributes:
        name: of what is wrong with it.
        path: where it is posted.
        body: all of it.
        kind: of the body, as it says.
        headers: others.
    """

    name: str
    path: str
    body: bytes
    kind: str = JSON
    headers: dict[str, str] = field(default_factory=dict)


def attacks(seed: int = 7) -> list[Attack]:
    """All of them, in a random order."""
    made = [*_pictures(), *_urls(), *_texts(), *_forms(), *_values(), *_kinds(), *_ids()]
    random.Random(seed).shuffle(made)
    return made


def chat(source: str = "", **more: Any) -> dict[str, Any]:
    """The body of a question about a picture."""
    messages = about("who?")
    if source:
        messages[0]["content"][0]["image_url"]["url"] = source
    return {"model": "random", "max_tokens": 2, "messages": messages, **more}


def edit(image: str, **more: Any) -> dict[str, Any]:
    """The body of an edit."""
    return {"prompt": "a hat", "steps": 2, "images": [{"image_url": image}], **more}


def form(*parts: tuple[str, bytes], more: str = "") -> bytes:
    """A multipart body of files and, where a name ends in no `*`, of fields."""
    made = b""
    for name, data in parts:
        file = f'; filename="x"{more}' if name.endswith("*") else more
        made += f'--edge\r\nContent-Disposition: form-data; name="{name.rstrip("*")}"{file}\r\n\r\n'.encode()
        made += data + b"\r\n"
    return made + b"--edge--\r\n"


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file of these chunks."""
    made = b"\x89PNG\r\n\x1a\n"
    for name, body in chunks:
        made += struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return made


def _bombs() -> Iterator[tuple[str, bytes]]:
    """Small files that are, or say they are, large."""
    yield "a PNG of 3,600 million pixels", bomb()
    yield "a PNG of a little too many pixels", encoded(Image.new("L", (1001, 1000)), "PNG")
    yield "a PNG that is all there, 36 million pixels", encoded(Image.new("1", (6000, 6000)), "PNG")
    yield "a JPEG of 16 million pixels", encoded(Image.new("L", (4000, 4000)), "JPEG", quality=5)
    whole = bytearray(encoded(picture(), "JPEG"))
    place = whole.index(b"\xff\xc0")
    whole[place + 5 : place + 9] = b"\xff\xff\xff\xff"
    yield "a JPEG that says 65535 x 65535", bytes(whole)
    yield "a GIF that says 65535 x 65535", b"GIF89a" + b"\xff" * 4 + encoded(picture(), "GIF")[10:]
    bmp = bytearray(encoded(picture(), "BMP"))
    bmp[18:26] = struct.pack("<ii", 100_000, 100_000)
    yield "a BMP that says 100000 x 100000", bytes(bmp)
    yield "a TIFF of 16 million pixels", encoded(Image.new("1", (4000, 4000)), "TIFF", compression="group4")
    yield "a WebP of 16 million pixels", encoded(Image.new("L", (4000, 4000)), "WEBP", quality=1)
    header = (b"IHDR", struct.pack(">IIBBBBB", 900, 900, 8, 2, 0, 0, 0))
    zeros = zlib.compress(bytes(60 * 2**20), 9)
    end = (b"IEND", b"")
    yield "a PNG whose text is 60 MiB", png(header, (b"zTXt", b"a\0\0" + zeros), (b"IDAT", b""), end)
    yield "a PNG whose profile is 60 MiB", png(header, (b"iCCP", b"a\0\0" + zeros), (b"IDAT", b""), end)


def _pictures() -> Iterator[Attack]:
    """Bad files by every way that pictures come."""
    odd = [(name, data) for name, (data, kind) in odd_files(encoded(picture(0, (300, 200)))).items() if kind]
    cut = [(f"half a {kind}", encoded(picture(1), kind)[:150]) for kind in ("GIF", "BMP", "WEBP", "TIFF")]
    for name, data in [*_bombs(), *odd, *cut]:
        source = url(data)
        yield Attack(f"{name}, asked about", CHAT, as_json(chat(source)))
        yield Attack(f"{name}, to edit", EDITS, as_json(edit(source, box=BOX)))
        yield Attack(f"{name}, as a mask", EDITS, as_json(edit(url(), mask={"image_url": source})))
        fields = ("prompt", b"a hat"), ("steps", b"2")
        yield Attack(f"{name}, in a form", EDITS, form(("image*", data), ("box", b"[0,0,1,1]"), *fields), FORM)
        yield Attack(f"{name}, as a form's mask", EDITS, form(("image*", FACE), ("mask*", data), *fields), FORM)


def _urls() -> Iterator[Attack]:
    """What is no picture's address."""
    sources = {
        "wrong letters": "data:image/png;base64,%%%%",
        "a letter short": "data:image/png;base64,QUJ",
        "letters of others": "data:image/png;base64,QUJDÜ",
        "half a character in it": "data:image/png;base64,\ud800",
        "a NUL in it": "data:image/png;base64,QU\x00JD",
        "nothing": "data:image/png;base64,",
        "no base64": "data:image/png," + "A" * 100,
        "too large": "data:image/png;base64," + "A" * 500_000,
        "no more than a scheme": "data:",
        "ourselves": "https://127.0.0.1/face.png",
        "the cloud's own": "http://169.254.169.254/latest/meta-data/",
        "a file": "file:///etc/passwd",
        "a bucket": "s3://bucket/face.png",
        "a script": "javascript:alert(1)",
        "a NUL": "\x00",
        "half a character": "\ud800",
    }
    for name, source in sources.items():
        yield Attack(f"{name}, asked about", CHAT, as_json(chat(source)))
        yield Attack(f"{name}, to edit", EDITS, as_json(edit(source, box=BOX)))
        yield Attack(f"{name}, as a mask", EDITS, as_json(edit(url(), mask={"image_url": source})))


def _texts() -> Iterator[Attack]:
    """What is no JSON, or is too much of it, wherever JSON is read."""
    bodies = {
        "nothing": b"",
        "null": b"null",
        "a list": b"[]",
        "an object of nothing": b"{}",
        "a number": b"7",
        "an open text": b'"',
        "cut in the middle": as_json(chat())[:-40],
        "no UTF-8": b'{"prompt": "\xff\xfe"}',
        "zeros": bytes(1000),
        "lists in lists": b"[" * 100_000,
        "objects in objects": b'{"messages":' * 50_000,
        "lists in lists, and back": b'{"messages":' + b"[" * 900 + b"]" * 900 + b"}",
        "a long number": b'{"seed":' + b"9" * 5000 + b"}",
        "no number": b'{"prompt":"x","temperature":NaN,"guidance":Infinity}',
        "many names": as_json({f"n{number}": 0 for number in range(80_000)}),
        "many values": as_json({"messages": [{"role": "user", "content": [0] * 300_000}]}),
        "many lists": as_json({"stop": [[]] * 200_000, "prompt": [[]] * 50_000}),
        "too large": b'{"prompt":"' + b"x" * MOST + b'"}',
    }
    for path, (name, body) in product((CHAT, IMAGES, EDITS, BATCHES), bodies.items()):
        yield Attack(f"{name}", path, body)


def _forms() -> Iterator[Attack]:
    """What is no form, or one of other things, wherever forms are read."""
    forms = {
        "nothing": b"",
        "no part": b"--edge--\r\n",
        "no edge": b"hello",
        "cut in the middle": form(("image*", FACE), ("file*", b"{}"))[:-300],
        "cut in a head": b'--edge\r\nContent-Disposition: form-data; name="im',
        "another edge": form(("image*", FACE)).replace(b"edge", b"rim"),
        "no names": b"--edge\r\nContent-Disposition: form-data\r\n\r\nx\r\n--edge--\r\n",
        "many fields": form(*[("purpose", b"x")] * 2000),
        "many files": form(*[("file*", b"x")] * 2000),
        "a long field": form(("prompt", b"x" * 1_000_000), ("purpose", b"y")),
        "a field that should be a file": form(("image", FACE), ("file", b"{}"), ("purpose", b"batch")),
        "a wide head": form(("file*", b"x"), more="; a=" + "b" * 100_000),
        "too large": form(("file*", bytes(MOST + 2**16)), ("purpose", b"batch")),
    }
    for path, (name, body) in product((EDITS, FILES), forms.items()):
        yield Attack(f"a form: {name}", path, body, FORM)
    for path in (EDITS, FILES):
        yield Attack("many fields of a short form", path, b"a&" * 300_000, "application/x-www-form-urlencoded")
        yield Attack("a short form of nothing", path, b"%ff=%&;=&&", "application/x-www-form-urlencoded")
    yield Attack("a form without its edge", FILES, form(("file*", b"x")), "multipart/form-data")
    yield Attack("a file for other purposes", FILES, form(("file*", b"x"), ("purpose", b"fine-tune")), FORM)
    nested = form(("image*", FACE), ("prompt", b"x"), ("box", b"[" * 100_000))
    yield Attack("a box of lists in lists", EDITS, nested, FORM)


def _values() -> Iterator[Attack]:
    """Values that no setting has."""
    nested: dict[str, Any] = {}
    for _ in range(400):
        nested = {"properties": {"a": nested}, "type": "object"}
    schemas = {
        "deep": nested,
        "long": {"description": "x" * 20_000},
        "half a character": {"const": "\ud800"},
    }
    for name, schema in schemas.items():
        wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        yield Attack(f"a schema: {name}", CHAT, as_json(chat(response_format=wanted)))
    text = {"half a character": "\ud800", "too long": "x" * 32_001}
    for name, value in text.items():
        yield Attack(f"{name} as a prompt", IMAGES, as_json({"prompt": value}))
        yield Attack(f"{name} as an edit's prompt", EDITS, as_json({**edit(url(), box=BOX), "prompt": value}))
        yield Attack(f"{name} as a question", CHAT, as_json({**chat(), "messages": about(value)}))
        yield Attack(f"{name} as a stop", CHAT, as_json(chat(stop=value)))
        yield Attack(f"{name} as a model", IMAGES, as_json({"prompt": "x", "model": value}))
    for setting, value in {"n": 10**9, "steps": 10**9, "seed": 2**70, "guidance": -1, "size": "9x9"}.items():
        yield Attack(f"{setting}={value}", IMAGES, as_json({"prompt": "x", setting: value}))
    yield Attack("a box outside", EDITS, as_json(edit(url(), box=[-5, 0, 10**9, 1])))
    yield Attack("a million messages", CHAT, as_json({"messages": about("x" * 700) * 1001})[: MOST - 1])


def _kinds() -> Iterator[Attack]:
    """Bodies that are not what they say."""
    good = {CHAT: chat(), IMAGES: {"prompt": "x"}, EDITS: edit(url(), box=BOX), BATCHES: {}}
    for (path, body), kind in product(good.items(), ("text/plain", "application/xml", FORM, "application/json\xff")):
        yield Attack(f"JSON that says {kind!r}", path, as_json(body), kind)
    packed = gzip.compress(as_json(chat()) + b" " * 10**8, 1)
    for path in good:
        yield Attack("packed, 100 MB", path, packed, headers={"Content-Encoding": "gzip"})
    for path in (FILES, EDITS):
        yield Attack("a form that says JSON", path, form(("file*", b"{}"), ("purpose", b"batch")))


def _ids() -> Iterator[Attack]:
    """Names of what is not there, in every spelling that could be somebody else's."""
    for number in ("x", "../../bob/files/file-1", "a" * 300, "\x00", "é" * 200, "\ud800", "..", ""):
        wanted = {"input_file_id": f"file-{number}", "endpoint": CHAT, "completion_window": "24h"}
        yield Attack(f"a file named {number[:9]!r}", BATCHES, as_json(wanted))
    for number in ("x", "batch_" + "a" * 300, "batch_%00", "batch_" + "%C3%A9" * 200, "..%2f..%2fx"):
        yield Attack(f"a batch named {number[:9]!r}", f"{BATCHES}/{number}/cancel", b"")


__all__ = ["BATCHES", "FILES", "FORM", "JSON", "SETTINGS", "Attack", "attacks", "chat"]
