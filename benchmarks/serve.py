"""The endpoint on Ray Serve against its own engine: what a request costs more, and how much load it takes.

    python -m benchmarks.serve [--size bench-100m] [--seconds 20] [--threads 1] [--losses]
    python -m benchmarks.serve --road

The engine alone answers the same questions in this process first and last. In between `uniface serve` runs with one
replica, and clients on this machine ask it. The model has `--threads` cores; doors, proxy and clients share the machine
with it, so the time that the clients themselves take is measured, told, and taken off where a rate of the server is
compared. With `--losses` the replica is killed under load, too, and then given newer weights. With `--road`, one client
asks a server whose engine answers at once: what it waits is the road there and back, decoding included. Results go to
benchmarks/results/ as JSON, with a plot beside it.
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors.torch import load_file, save_file

import uniface_ray
from benchmarks.chart import plot
from benchmarks.load import Load, bodies, closed, opened, percentiles, question, steady_rate
from benchmarks.record import about, save
from benchmarks.sizes import TINY, build
from tests.pictures import variations
from uniface_ray.core.records import Pixels
from uniface_ray.data.images import decode_image
from uniface_ray.data.pixels import fit_square
from uniface_ray.engine.protocol import Ask, Text
from uniface_ray.engine.uniface import UniFaceEngine
from uniface_ray.model import UniFaceProcessor

PACKAGE = Path(uniface_ray.__file__).parent
PICTURES = 64
TOKENS = {"tiny": 40, "bench-100m": 16}
CLIENTS = (1, 8, 32, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="bench-100m", choices=["tiny", "bench-100m"])
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load")
    parser.add_argument("--threads", type=int, default=1, help="of the model")
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--losses", action="store_true", help="also kill the replica, and change the weights")
    parser.add_argument("--road", action="store_true", help="only what is around the engine")
    given = parser.parse_args()
    pictures = variations([path.read_bytes() for path in sorted(portraits().glob("*.jpg"))], PICTURES)
    if given.road:
        return save_road(pictures, given)
    result = about("benchmarks.serve") | {"size": given.size, "threads": given.threads, "slots": given.slots}
    with tempfile.TemporaryDirectory() as home:
        folder = weights(given.size, Path(home))
        result["engine"] = engine_alone(folder, pictures, given)
        print("engine", result["engine"]["answers_per_s"], flush=True)
        with server(folder, given) as (url, process):
            result["server"] = loads(url, process, pictures, given, result["engine"]["answers_per_s"])
            if given.losses:
                result["server"] |= losses(url, process, folder, bodies("measured", pictures, TOKENS[given.size], True))
        again = engine_alone(folder, pictures, given)
        result["engine"]["answers_per_s_after"] = again["answers_per_s"]
    result["ratios"] = ratios(result)
    print(result["ratios"])
    lines = {
        f"{name} {p}": [(clients, result["server"]["clients"][str(clients)][key][p]) for clients in CLIENTS]
        for name, key in (("whole answer", "latency_s"), ("first token", "first_token_s"))
        for p in ("p50", "p99")
    }
    target = save(result, f"serve-{given.size}")
    target.with_suffix(".svg").write_text(plot(lines, "clients", "seconds"))
    print(target)


def save_road(pictures: list[bytes], given: argparse.Namespace) -> None:
    """Seconds of a request that costs the engine nothing."""
    whole = bodies("measured", pictures, TOKENS["tiny"], False)
    with server(TINY, given, "engine.kind=null") as (url, _):
        closed(url, whole, 1, given.seconds / 4)
        one = closed(url, whole, 1, given.seconds).numbers(1)
    print(one)
    print(save(about("benchmarks.serve --road") | {"one_client": one}, "serve-road"))


def portraits() -> Path:
    """The pictures that ship with the package."""
    return PACKAGE / "assets" / "portraits"


def weights(size: str, home: Path) -> Path:
    """A folder with the model."""
    if size == "tiny":
        return Path(shutil.copytree(TINY, home, dirs_exist_ok=True))
    model = build(size, narrow_tokenizer=True)
    model.save_pretrained(home)
    UniFaceProcessor(UniFaceProcessor.from_pretrained(TINY).tokenizer, model.config).save_pretrained(home)
    return home


def engine_alone(folder: Path, pictures: list[bytes], given: argparse.Namespace) -> dict[str, Any]:
    """Answers a second with all slots full, and seconds of one answer at a time."""
    torch.set_num_threads(given.threads)
    engine = UniFaceEngine(folder, batch_size=given.slots, image_share=0.5, image_batch=4)
    fitted: list[Pixels] = [fit_square(decode_image(data, 10**8), engine.image_size) for data in pictures]
    asks = [Ask(pixels, question(number), TOKENS[given.size]) for number, pixels in enumerate(fitted)]
    engine.run(asks[-given.slots :])  # so that no picture of the first ones is in a slot already
    singles = []
    until = time.monotonic() + given.seconds
    while time.monotonic() < until or len(singles) < 8:
        start = time.monotonic()
        engine.run([asks[len(singles) % len(asks)]])
        singles.append(time.monotonic() - start)
    return {
        "answers_per_s": _full_rate(engine, asks, given),
        "latency_s": percentiles(singles),
        "singles_s": singles,
    }


def _full_rate(engine: UniFaceEngine, asks: list[Ask], given: argparse.Namespace) -> float:
    """With all slots full for a time, as a server's are."""
    start, submitted = time.monotonic(), 0
    ends: list[float] = []
    while time.monotonic() < start + given.seconds or len(ends) < _enough(given):
        while submitted - len(ends) < 2 * given.slots:
            engine.submit(asks[submitted % len(asks)])
            submitted += 1
        for _, outcome in engine.step():
            assert isinstance(outcome, Text)
            ends.append(time.monotonic())
    return steady_rate(ends, given.slots)


def _enough(given: argparse.Namespace) -> int:
    """Answers that make a rate: slots fill and empty together."""
    return 4 * int(given.slots)


@contextmanager
def server(folder: Path, given: argparse.Namespace, *more: str) -> Iterator[tuple[str, psutil.Process]]:
    """The address of a running `uniface serve`, and its process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = [
        "model.name=measured",
        f"model.path={folder}",
        f"engine.batch_size={given.slots}",
        f"engine.threads={given.threads}",
        f"serve.port={port}",
        f"serve.max_waiting={CLIENTS[-1] - given.slots}",
        "guard.access_log=false",
        "cluster.address=local",
        *more,
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, "-m", "uniface_ray.cli", "serve", *settings]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert running.stdout
        for line in running.stdout:
            print(line, end="", flush=True)
            if "Ctrl-C" in line:
                break
        yield f"http://127.0.0.1:{port}", psutil.Process(running.pid)
    finally:
        running.send_signal(signal.SIGINT)
        running.wait(timeout=120)


def loads(
    url: str, process: psutil.Process, pictures: list[bytes], given: argparse.Namespace, engine_rate: float
) -> dict[str, Any]:
    """Every load, one after the other."""
    whole, streams = (bodies("measured", pictures, TOKENS[given.size], stream) for stream in (False, True))
    closed(url, whole[-given.slots :], given.slots, given.seconds / 2)  # warm, and see `engine_alone`
    one = closed(url, whole, 1, given.seconds)
    singles_s = [seen.total_s for seen in one.seen]
    found: dict[str, Any] = {"one_client": one.numbers(1) | {"singles_s": singles_s}, "clients": {}}
    for clients in CLIENTS:
        found["clients"][str(clients)] = _closed(url, streams, clients, given)
        print(clients, "clients", found["clients"][str(clients)], flush=True)
    before = _cpu_s(process)
    full: Load = closed(url, whole, 2 * given.slots, given.seconds, _enough(given))
    found["full"] = full.numbers(given.slots)
    found["full"]["cpu_s_by_process"] = {name: s - before.get(name, 0.0) for name, s in _cpu_s(process).items()}
    # As many at the beginning as there is room for.
    found["twice_as_much"] = opened(url, streams, 2 * engine_rate, given.seconds, CLIENTS[-1]).numbers(1)
    print("full", found["full"], "\ntwice", found["twice_as_much"], flush=True)
    return found


def _closed(url: str, streams: list[bytes], clients: int, given: argparse.Namespace) -> dict[str, Any]:
    slots = min(clients, given.slots)
    return closed(url, streams, clients, given.seconds, clients + 2 * slots).numbers(slots)


def losses(url: str, process: psutil.Process, folder: Path, streams: list[bytes]) -> dict[str, Any]:
    """What becomes of requests while the replica is killed, and while it takes newer weights."""
    found = {}
    for name, happens in (("killed", lambda: _kill(process)), ("reloaded", lambda: _reload(process, folder))):
        timer = threading.Timer(5.0, happens)
        timer.start()
        load = closed(url, streams, CLIENTS[1], 40.0)
        timer.join()
        found[name] = load.numbers(1) | {"lost": len(load.seen) - len(load.good)}
        print(name, found[name], flush=True)
    return found


def _kill(process: psutil.Process) -> None:
    (replica,) = [one for one in process.children(recursive=True) if "model-measured" in " ".join(one.cmdline())]
    replica.kill()


def _reload(process: psutil.Process, folder: Path) -> None:
    (file,) = folder.glob("*.safetensors")
    tensors = load_file(file)
    tensors["showo.lm_head.bias"] += 0.01
    save_file(tensors, file.with_suffix(".coming"))
    os.replace(file.with_suffix(".coming"), file)
    process.send_signal(signal.SIGHUP)


def _cpu_s(process: psutil.Process) -> dict[str, float]:
    """CPU seconds so far, by what a process is for."""
    total: dict[str, float] = {}
    for one in [process, *process.children(recursive=True)]:
        try:
            times, words = one.cpu_times(), " ".join(one.cmdline())
        except psutil.Error:
            continue
        names = {"model-measured": "replica", "door": "door", "Proxy": "proxy", "child_main": "decoders"}
        name = next((name for mark, name in names.items() if mark in words), "rest of Ray")
        total[name] = total.get(name, 0.0) + times.user + times.system
    return total


def ratios(result: dict[str, Any]) -> dict[str, Any]:
    """The server's numbers against those of the engine in the same run."""
    engine, full, one = result["engine"], result["server"]["full"], result["server"]["one_client"]
    rate = (engine["answers_per_s"] + engine["answers_per_s_after"]) / 2
    # The same questions in the same order.
    added = percentiles([ours - its for ours, its in zip(one["singles_s"], engine["singles_s"], strict=False)])
    assert added
    twice, most = result["server"]["twice_as_much"], result["server"]["clients"][str(CLIENTS[-1])]
    return {
        "full_of_engine": full["answers_per_s"] / rate,
        # What the clients took of the machine's cores, nobody could use.
        "full_of_engine_without_clients_time": full["answers_per_s"] / (1 - full["generator_share_of_cpu"]) / rate,
        "added_ms": {name: 1000 * seconds for name, seconds in added.items()},
        "refused_p99_ms_at_twice_the_load": twice["refused_latency_s"] and 1000 * twice["refused_latency_s"]["p99"],
        # As many are under way or wait in both; at twice the load others are refused.
        "latency_p50_at_twice_the_load": twice["latency_s"]["p50"] / most["latency_s"]["p50"],
        "latency_p99_at_twice_the_load": twice["latency_s"]["p99"] / most["latency_s"]["p99"],
    }


if __name__ == "__main__":
    main()
