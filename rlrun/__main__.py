"""``python -m rlrun`` is the command ``rlrun``."""

import sys

from rlrun.cli import main

sys.exit(main())
