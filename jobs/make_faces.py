"""Makes the faces of uniface-tiny's data: `ray job submit --working-dir . -- python jobs/make_faces.py --count ...`.

The options, and where the weights come from: `python jobs/make_faces.py --help`.
"""

import sys
from pathlib import Path

# Driver and workers must run the code that was submitted, not an installed one; and the folder of this file, where its
# place was, has a `tokenize` that is not Python's.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from uniface_ray.train.synthetic.make_faces import main

if __name__ == "__main__":
    main()
