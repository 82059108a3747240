"""``python -m rlrun.video_worker``: play greedy episodes and film them, in a process of its own that may die without harm to others.

It reads one line of JSON, what to film, from stdin, writes only into the folder named there, and answers with lines of JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from typing import Any

from rlrun.child import claim_output, log_traceback, run_and_exit
from rlrun.env_ids import allow_imports
from rlrun.errors import RlrunError, in_users_terms
from rlrun.filming import film
from rlrun.interrupts import ignore_wishes
from rlrun.provenance import remember
from rlrun.watchdog import watching

_SECONDS_BETWEEN_EVENTS = 0.2


class _Orphaned(Exception):
    """Whoever wanted the video has gone."""


def main() -> int:
    """Film what stdin describes."""
    ignore_wishes()
    stream = claim_output()
    request = json.loads(sys.stdin.readline())
    remember(request["secrets"])
    allow_imports(request["imports"])

    def say(**event: Any) -> None:
        print(json.dumps(event), file=stream, flush=True)

    def fail(error: RlrunError) -> RlrunError:
        say(error=str(error), code=error.exit_code)
        return error

    said = 0.0

    def progress(pictures: int) -> None:
        nonlocal said
        if os.getppid() != request["parent"]:
            raise _Orphaned
        if time.monotonic() - said >= _SECONDS_BETWEEN_EVENTS:
            said = time.monotonic()
            say(progress=pictures)

    env = request["config"]["env"]
    try:
        with watching(env["id"], env["step_timeout"], lambda agent, failure: fail(failure)):
            say(**film(request, progress))
    except _Orphaned:
        shutil.rmtree(request["work"], ignore_errors=True)
        return 1
    except Exception as error:
        fail(in_users_terms(error))
        log_traceback()
    return 0


if __name__ == "__main__":
    run_and_exit(main)
