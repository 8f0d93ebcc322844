"""`python -m zip_ray`: the same as the command `zip-ray`."""

import sys

from zip_ray.cli.main import main

sys.exit(main())
