"""rlrun: deep reinforcement-learning experiments from the shell, and from Python by ``train`` and ``load``."""

import importlib

TYPE_CHECKING = False  # typing takes its time to import, in which a Ctrl-C would be a traceback

if TYPE_CHECKING:
    from rlrun.api import TrainedRun as TrainedRun
    from rlrun.api import load as load
    from rlrun.api import train as train
    from rlrun.policy import TrainedPolicy as TrainedPolicy

__version__ = "0.1.0"
__all__ = ["TrainedPolicy", "TrainedRun", "__version__", "load", "train"]


def __getattr__(name: str) -> object:
    """What the command line, which imports this first, is not to wait for."""
    if name in __all__:
        return getattr(importlib.import_module("rlrun.api"), name)
    raise AttributeError(f"module 'rlrun' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
