"""What every result file says: when, how, on what."""

import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from uniface_ray.core.run_facts import versions

HERE = Path(__file__).parent


def about(module: str) -> dict[str, Any]:
    """Date, command, machine and versions."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join([f"python -m {module}", *sys.argv[1:]]),
        "machine": {"cores": os.cpu_count(), "cpu": _cpu(), "system": platform.platform()},
        "versions": versions(),
    }


def save(result: dict[str, Any], name: str) -> Path:
    """Write benchmarks/results/<date>-<name>.json."""
    target = HERE / "results" / f"{result['date']}-{name}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n")
    return target


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
