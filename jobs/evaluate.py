"""`uniface evaluate` as a script: `ray job submit --working-dir . -- python jobs/evaluate.py source.path=...`."""

import sys
from pathlib import Path

# Driver and workers must run the code that was submitted, not an installed one; and the folder of this file, where its
# place was, has a `tokenize` that is not Python's.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from uniface_ray.cli import main

if __name__ == "__main__":
    sys.exit(main("evaluate"))
