"""The layers of design.md, and what no file may do, read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "rlrun"
CONFIGS = PACKAGE.parent / "configs"
LAYERS = (
    {"errors", "lazy", "provenance"},
    {"config", "plain", "seeding", "arrays"},
    {
        "networks",
        "kernels",
        "optim",
        "env_ids",
        "envs",
        "envstate",
        "shared_state",
        "simulation",
        "normalization",
        "distributions",
        "advantages",
        "rollout",
        "replay",
        "hardware",
        "run",
        "manifest",
        "manners",
        "finding",
        "deletion",
        "garbage",
        "child",
        "checkpoint",
        "container",
        "checkpoint_folder",
        "checkpoint_names",
        "pieces",
        "locks",
        "metrics",
        "interrupts",
        "rendering",
        "movie",
    },
    {"trainers", "torchrl_engine"},
    {"training", "bookkeeping", "member", "view", "evaluation", "reports", "watchdog", "tracking"}
    | {"video", "filming", "video_worker", "wrapped", "policy", "torch_policy", "export", "export_formats"},
    {"sweeps", "cli", "api"},
)
LEVEL = {module: level for level, modules in enumerate(LAYERS) for module in modules}
ONLY = {  # who may import what
    "hydra": {"cli", "sweeps"},
    "omegaconf": {"config"},
    "rich": {"cli", "reports"},
    "tensorboard": {"tracking"},
    "wandb": {"tracking"},
    "mlflow": {"tracking"},
}
NO_TORCH = {"errors", "config", "plain", "seeding", "provenance", "env_ids", "envs", "envstate", "simulation"} | {
    *("run", "manifest", "finding", "deletion", "garbage", "checkpoint", "container", "checkpoint_folder", "pieces"),
    *("metrics", "rendering", "movie", "video", "reports", "manners", "shared_state"),
}
FORBIDDEN_IMPORTS = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib", "jsonpickle", "commands", "pty"}
FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "torch.save",
    "os.system",
    "os.popen",
    "os.execv",
    "os.spawnv",
}
FORBIDDEN_NAMES = {  # whatever module they are called on
    *(
        "load_memmap",
        "from_pickle",
        "read_pickle",
        "unsafe_load",
        "full_load",
        "load_all",
        "extractall",
        "import_string",
    ),
    *("instantiate", "get_method", "get_class", "get_object", "unpack_archive"),
}
FORBIDDEN_BUT_IN = {  # exported programs have pickles inside: only what we have just written is loaded
    **dict.fromkeys(("torch.jit.load", "torch.export.load", "onnxruntime.InferenceSession"), "export_formats"),
}
FORBIDDEN_ARGUMENTS = {"shell": "False", "allow_pickle": "False", "weights_only": "True", "trust_remote_code": "False"}
FILES = sorted(PACKAGE.rglob("*.py"))


def module_of(path: Path) -> str:
    """``rlrun/config/checks.py`` belongs to ``config``; ``rlrun/__init__.py`` to ``rlrun``; ``__main__`` is the cli."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return {"__init__": "rlrun", "__main__": "cli"}.get(parts[0], parts[0])


def imports(tree: ast.AST) -> Iterator[str]:
    """Full names of imported modules, wherever in the file, but for ``if TYPE_CHECKING`` blocks."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{name.name}" for name in node.names)
        else:
            yield from imports(node)


def top_level_imports(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from imports(ast.Module(body=[node], type_ignores=[]))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_file_keeps_to_its_layer(path: Path) -> None:
    module, tree = module_of(path), ast.parse(path.read_text(encoding="utf-8"))
    assert module == "rlrun" or module in LEVEL, f"say in which layer {module} is"
    for name in imports(tree):
        parts = name.split(".")
        if parts[0] == "rlrun" and len(parts) > 1:
            imported = parts[1] if parts[1] != "__version__" else module
            assert imported in LEVEL, name
            assert LEVEL[imported] <= LEVEL[module], f"{module} must not import {name}, which is above it"
        assert module in ONLY.get(parts[0], {module}), f"{module} must not import {name}"
        assert parts[0] not in FORBIDDEN_IMPORTS, name


def danger_of(call: ast.Call) -> str | None:
    """Why a call may run what it should only read; None if it can't."""
    function = ast.unparse(call.func)
    keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if function in FORBIDDEN_CALLS or function.rpartition(".")[2] in FORBIDDEN_NAMES:
        return function
    if function == "torch.load" and "weights_only" not in keywords:
        return "torch.load without weights_only=True"
    if function == "yaml.load":
        return function
    wrong = [name for name, only in FORBIDDEN_ARGUMENTS.items() if keywords.get(name, only) != only]
    return wrong[0] if wrong else None


@pytest.mark.parametrize(
    "code",
    [
        "eval(x)", "exec(x)", "torch.load(f)", "torch.load(f, weights_only=False)", "np.load(f, allow_pickle=True)", "yaml.load(f)",
        "yaml.load(f, Loader=yaml.SafeLoader)", "subprocess.run(x, shell=True)", "subprocess.run(x, shell=wanted)", "os.system(x)",
        "hydra.utils.instantiate(c)", "instantiate(c)", "TensorDict.load_memmap(f)", "archive.extractall(x)", "yaml.full_load(f)",
    ],
)  # fmt: skip
def test_dangerous_calls_are_known(code: str) -> None:
    (call,) = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    assert danger_of(call) is not None


def test_harmless_calls_are_known() -> None:
    for code in (
        "torch.load(f, weights_only=True)",
        "np.load(f)",
        "yaml.safe_load(f)",
        "subprocess.run(x, shell=False)",
    ):
        (call,) = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
        assert danger_of(call) is None


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_file_calls_nothing_dangerous(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            assert danger_of(node) is None, ast.unparse(node)
            assert FORBIDDEN_BUT_IN.get(ast.unparse(node.func), module_of(path)) == module_of(path), ast.unparse(node)


def test_siblings_import_each_other_without_cycles() -> None:
    graph: dict[str, set[str]] = {}
    for path in FILES:
        name = ".".join(("rlrun", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        found = set(top_level_imports(ast.parse(path.read_text(encoding="utf-8"))))
        graph[name] = {entry for entry in found if entry.startswith("rlrun")}
    known = set(graph)

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"import cycle: {' -> '.join((*trail, name))}"
        for entry in graph[name]:
            target = entry if entry in known else entry.rpartition(".")[0]
            # A package's modules import each other through it only by full name.
            if target in known and target not in checked and not name.startswith(f"{target}."):
                visit(target, (*trail, name))
        checked.add(name)

    checked: set[str] = set()
    for name in sorted(known):
        visit(name, ())


@pytest.mark.parametrize("module", sorted(NO_TORCH))
def test_what_quick_commands_need_imports_no_torch(module: str) -> None:
    """Followed through everything these modules import at their top."""
    todo, seen = [module], set()
    while todo:
        current = todo.pop()
        if current in seen:
            continue
        seen.add(current)
        place = PACKAGE / current
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]:
            for name in top_level_imports(ast.parse(path.read_text(encoding="utf-8"))):
                parts = name.split(".")
                assert parts[0] not in ("torch", "tensordict", "torchrl"), f"{module} -> {current} -> {name}"
                if parts[0] == "rlrun" and len(parts) > 1 and parts[1] != "__version__":
                    todo.append(parts[1])


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*")), ids=lambda path: str(path.relative_to(CONFIGS)))
def test_configs_name_no_code(path: Path) -> None:
    if path.is_file():
        assert path.suffix == ".yaml"
        text = path.read_text(encoding="utf-8")
        assert not [word for word in ("_target_", "_partial_", "!!python", "oc.env", "hydra.utils") if word in text]
