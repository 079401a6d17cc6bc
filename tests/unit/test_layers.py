"""Imports point down the layers, never back (SPEC: CODE-1)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "federated_memory"

# From the top: a module may import from layers below its own, and from its own package.
LAYERS: list[set[str]] = [
    {"__main__"},
    {"start"},
    {"cli"},
    {"asgi"},
    {"pages"},
    {"tools", "web", "client"},
    {"boundary"},
    {"app"},
    {"service", "operate"},
    {"search"},
    {"index"},
    {"auth"},
    {"store"},
    {"transcripts", "redaction", "fs", "logs"},
    {"settings"},
    {"names"},
    {"errors"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def top(module: str) -> str:
    return module.split(".")[1] if module.count(".") else "__init__"


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("federated_memory"):
            module = node.module or ""
            found |= {f"{module}.{alias.name}" for alias in node.names} if module == "federated_memory" else {module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("federated_memory")}
    return found


@pytest.mark.spec("CODE-1")
@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    layer = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if layer == "__init__":
        return
    for module in imports(path):
        target = top(module)
        if target in ("__init__", "__version__", layer):
            continue
        assert RANK[target] > RANK[layer], f"{layer} must not import {module}"


@pytest.mark.spec("CODE-1")
def test_every_module_has_a_layer() -> None:
    found = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert found - {"__init__", "__pycache__", "py", "typed", "py.typed", "server_content"} <= RANK.keys()


@pytest.mark.spec("CODE-1")
def test_the_command_s_modules_import_each_other_in_no_circle() -> None:
    below = {path.stem: set[str]() for path in (PACKAGE / "cli").glob("*.py")}
    for path in (PACKAGE / "cli").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("federated_memory.cli"):
                names = (node.module or "").split(".")[2:3] or [alias.name for alias in node.names]
                below[path.stem] |= {name for name in names if name in below}

    while ends := {name for name, targets in below.items() if not targets}:
        below = {name: targets - ends for name, targets in below.items() if name not in ends}
    assert below == {}
