"""``python -m rlrun`` is the command ``rlrun``."""

import sys

if not sys.flags.safe_path:
    del sys.path[0]  # the current folder: what lies there is not to be taken for a module

from rlrun.cli import main

sys.exit(main())
