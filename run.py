"""The command `zip-ray` in a clone where the project itself is not installed: `python run.py tune quickstart`."""

import sys

from zip_ray.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
