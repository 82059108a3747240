"""A second wall behind ``own_configs``: whatever a file of ``--config-dir`` says, Hydra's own settings stay those of rlrun and of
the command line. They name code that Hydra runs, variables that it sets, and files that it writes, before rlrun sees a config."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra._internal import hydra as composing
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra.types import RunMode

from rlrun.config import settings_of_hydra
from rlrun.errors import UsageError

_FOLDER = "command-line"  # what Hydra calls the --config-dir
_OF_A_JOB = ("runtime.", "overrides.", "job.override_dirname")  # where files were found, and what was typed


class GuardedLoader(ConfigLoaderImpl):
    """Composes as Hydra does. Raises UsageError if that changes Hydra's own settings."""

    def load_configuration(
        self, config_name: str | None, overrides: list[str], run_mode: RunMode, *rest: Any, **named: Any
    ) -> Any:
        """As Hydra's own."""
        composed = super().load_configuration(config_name, overrides, run_mode, *rest, **named)
        places = self.config_search_path.get_path()
        if any(place.provider == _FOLDER for place in places):
            ours = ConfigSearchPathImpl()
            ours.config_search_path = [place for place in places if place.provider != _FOLDER]
            typed = [text for text in overrides if text.lstrip("+~").startswith("hydra")]
            _compare(composed, ConfigLoaderImpl(ours).load_configuration(config_name, typed, run_mode, *rest, **named))
        return composed


def _compare(composed: Any, ours: Any) -> None:
    """Raises UsageError for settings of Hydra that differ."""
    found, expected = settings_of_hydra(composed), settings_of_hydra(ours)
    for key in {**expected, **found}:
        if found.get(key) != expected.get(key) and not f"{key}.".startswith(_OF_A_JOB):
            raise UsageError(
                f"a file of --config-dir sets hydra.{key:.60}, which can run code; only the command line may"
            )


@contextmanager
def loading_guarded() -> Iterator[None]:
    """Hydra composes with a ``GuardedLoader`` meanwhile."""
    module: Any = composing
    before, module.ConfigLoaderImpl = module.ConfigLoaderImpl, GuardedLoader
    try:
        yield
    finally:
        module.ConfigLoaderImpl = before
