"""The package's own rules about imports: downwards only, and nothing heavy before it is needed."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "anygrain"
MODULES = sorted(SOURCE.rglob("*.py"))

# A module imports from its own layer and from those above it in this list.
LAYERS: list[tuple[str, ...]] = [
    ("types", "markdown", "nouns"),
    ("config", "files", "phrases"),
    ("vocabulary", "categories"),
    ("warp", "resize", "draw", "images", "masks"),
    ("video", "inputs"),
    ("models",),
    ("inference", "tiles", "everything", "label_maps"),
    ("text_answers", "point_answers", "language_answers"),
    ("segmenter", "tagger"),
    ("hub", "released"),
    ("average", "calibrate"),
    ("outputs", "requests", "panoptic"),
    ("data",),
    ("train",),
    ("recipes",),
    ("eval",),
    ("annotate",),
    ("experiments",),
    ("commands",),
    ("cli",),
    ("__main__",),
]
# Methods that only forward, so that a person finds them on the type: imported when called.
FORWARDS = {("types", "data"), ("types", "draw"), ("types", "images")}
FORBIDDEN = ("torchvision", "cv2", "timm")


def part_of(module: str) -> str:
    """ "anygrain.data.shards" -> "data"; the package itself -> ""."""
    return module.split(".")[1] if "." in module else ""


def imports(tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """Every imported module, and whether inside a function. Blocks for type checkers are left out."""

    def walk(node: ast.AST, inside: bool) -> Iterator[tuple[str, bool]]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            yield from ((name.name, inside) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = (
                [f"{node.module}.{name.name}" for name in node.names] if node.module == "anygrain" else [node.module]
            )
            yield from ((str(name), inside) for name in names)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, inside or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))

    return walk(tree, False)


def parse(path: Path) -> ast.AST:
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_module_imports_downwards_only_and_nothing_forbidden(path):
    height = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    here = name_of(path)
    if here != "__init__":
        assert here in height, f"give {here} a place in LAYERS"
    for module, inside in imports(parse(path)):
        assert module.split(".")[0] not in FORBIDDEN
        there = part_of(module)
        if module.split(".")[0] != "anygrain" or there not in height or here == "__init__":
            continue
        allowed = height[there] <= height[here] or (inside and (here, there) in FORWARDS)
        assert allowed, f"{here} imports {module}, which stands above it"


def test_the_rules_are_seen():
    tree = ast.parse(
        "from anygrain import hub\nif TYPE_CHECKING:\n    import cv2\ndef f():\n    import anygrain.train.log"
    )
    assert list(imports(tree)) == [("anygrain.hub", False), ("anygrain.train.log", True)]
    assert [part_of(name) for name, _ in imports(tree)] == ["hub", "train"]


def loaded_by(code: str) -> set[str]:
    """Top-level modules that are there after ``code`` in a fresh interpreter."""
    script = f"{code}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}), file=sys.stderr)"
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr
    return set(process.stderr.split())


@pytest.mark.parametrize(
    "code",
    [
        "import anygrain",
        "from anygrain.__main__ import main; main(['--help'])",
        "from anygrain.__main__ import main; main(['--version'])",
    ],
)
def test_what_costs_nothing_loads_nothing_heavy(code):
    assert loaded_by(code) & {"torch", "numpy", "PIL", "scipy", "pydantic", "tyro", "huggingface_hub"} == set()


def test_the_help_of_a_command_loads_no_torch():
    code = "from anygrain.__main__ import main\ntry: main(['segment', '--help'])\nexcept SystemExit: pass"
    assert loaded_by(code) & {"torch", "numpy", "scipy"} == set()
