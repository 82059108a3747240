"""Ids of environments, and whose code they may import. Wrong ids end here, in one line."""

from __future__ import annotations

import difflib
import importlib
import re
import shlex
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points

from gymnasium.envs.registration import EnvSpec, registry

from rlrun.errors import PASSING, UnavailableError, UsageError, one_line
from rlrun.plain import printable

_ID = re.compile(r"[A-Za-z0-9_.\-]+(/[A-Za-z0-9_.\-]+)?-v\d+")
_PACKAGES = {"ALE": "ale-py", "phys2d": "jax", "tabular": "jax"}
"""Namespaces of well-known environments and the package each needs."""

_importable: set[str] = set()
"""Modules that an id may name. To import is to execute, so only the command line can allow it, for this process."""


def allow_imports(modules: Collection[str]) -> None:
    """Let ids of the form ``module:Name-v0`` import these modules, and no others any more."""
    _importable.clear()
    _importable.update(modules)


def allowed_imports() -> list[str]:
    """What ``allow_imports`` was given, for a process that is to do the same."""
    return sorted(_importable)


def registered(identifier: str) -> EnvSpec:
    """The registered spec of an id, with packages that advertise environments to rlrun imported if it takes them."""
    shown = printable(identifier)
    module, colon, rest = identifier.partition(":")
    if colon:
        _import(identifier, module)
        return registered(rest)
    if not _ID.fullmatch(identifier):
        raise UsageError(f"env.id={shown}: {_malformed(identifier)}")
    broken = [] if identifier in registry else _load_plugins()
    if identifier in registry:
        return registry[identifier]
    if broken and not _versions(identifier.rpartition("-v")[0]):
        raise UnavailableError(
            f"env.id={identifier}: not registered, and what may register it fails on import: {'; '.join(broken)}"
        )
    prefix = identifier.rpartition("/")[0]
    if prefix and prefix not in {spec.namespace for spec in registry.values()}:
        package = _PACKAGES.get(prefix, f"the package that has {prefix}")
        raise UnavailableError(f"env.id={identifier}: no installed package registers it with rlrun; install {package}")
    raise UsageError(f"env.id={identifier}: no such environment; {_nearest(identifier)}")


def _import(identifier: str, module: str) -> None:
    if module not in _importable:
        allowed = shlex.quote(f"env.allow_import={printable(module)}")
        raise UsageError(
            f"env.id={printable(identifier)} imports the module {module!r:.60}, which executes it; "
            f"if you trust it, type {allowed} on the command line"
        )
    try:
        with quiet():
            importlib.import_module(module)
    except PASSING:
        raise
    except BaseException as error:
        raise UnavailableError(
            f"env.id={identifier}: can't import {module}: {one_line(error)}; install it, or put its folder on PYTHONPATH"
        ) from error


def _load_plugins() -> list[str]:
    """Import the installed packages that advertise environments; returns a few words on each that can't be.

    ``rlrun.envs`` is our group; ``gymnasium.envs`` is Gymnasium's, which Gymnasium itself stopped to read. Ids are as
    the package writes them, as after importing it.
    """
    broken = []
    for plugin in [plugin for group in ("rlrun.envs", "gymnasium.envs") for plugin in entry_points(group=group)]:
        try:
            with quiet():
                register = plugin.load()
                if callable(register):
                    register()
        except PASSING:
            raise
        except BaseException as error:
            package = plugin.dist.name if plugin.dist else plugin.value
            broken.append(f"package {package} ({one_line(error)})")
    return broken


def _malformed(identifier: str) -> str:
    versions = _versions(identifier.strip())
    return f"write the version: {versions[-1]}" if versions else "expected a Gymnasium id such as CartPole-v1"


def _nearest(identifier: str) -> str:
    versions = _versions(identifier.rpartition("-v")[0])
    if versions:
        return f"its versions are {', '.join(versions)}"
    close = difflib.get_close_matches(identifier, registry, n=1)
    return f"did you mean {close[0]}?" if close else "see gymnasium.pprint_registry() for what is installed"


def _versions(name: str) -> list[str]:
    """The registered ids of a name without its version, oldest first."""
    same = [spec for spec in registry.values() if spec.id.rpartition("-v")[0] == name]
    return [spec.id for spec in sorted(same, key=lambda spec: spec.version or 0)]


def missing_package(spec: EnvSpec, error: BaseException) -> str:
    newest = _versions(spec.id.rpartition("-v")[0])[-1]
    remedy = f"use {newest}" if newest != spec.id else " ".join(str(error).split())
    package = f" ({_PACKAGES[spec.namespace]})" if spec.namespace in _PACKAGES else ""
    return f"env.id={spec.id} needs a package that is not installed{package}; {remedy}"


@contextmanager
def quiet() -> Iterator[None]:
    """Gymnasium warns in colour about old versions and float precision; our own checks say what matters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
