"""`uniface generate` as a script: `ray job submit --working-dir . -- python jobs/generate.py source.path=...`."""

import sys
from pathlib import Path

# Beside this file, not an installed one: driver and workers must run the code that was submitted.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from uniface_ray.cli import main

if __name__ == "__main__":
    sys.exit(main("generate"))
