"""Rules of the house that a program can check: randomness, safety, layers, sizes, documentation.

Rules about code read the syntax tree of every file of the package, so that words in strings and
comments do not count. Each rule is itself tried on a line that breaks it.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ("restore", "operators", "datasets", "cli")
ELSEWHERE = ("tests", "docs", "benchmarks", "docker", ".ci")
BINARY = {
    ".safetensors",
    ".npz",
    ".npy",
    ".h5",
    ".gz",
    ".dcm",
    ".png",
    ".jpg",
    ".tif",
    ".pyc",
    ".mha",
}
BINARY |= {".nbi", ".nbc"}  # what numba compiled

FILE_LINES = 500
FUNCTION_LINES = 50

# A part may import itself and every part of an earlier row, none of its own row. `datasets` may
# know even less, see below.
LAYERS = (
    {"errors", "version"},
    {"config", "randomness", "gaussian", "extras", "time_limit"},
    {"linalg"},
    {"scaling", "noise", "noise_estimation", "rician", "metrics", "conformal", "precision"},
    {"operators"},
    {"solvers"},
    {"problem"},
    {"measured_rows"},
    {"unexplained"},
    {"datasets", "bridges"},
    {"priors"},
    {"samplers"},
    {"registry", "unknown_noise", "given_measurement", "given_kspace", "torch_state", "trajectory"},
    {"draining", "method"},
    {"starts"},
    {"front_door", "training"},
    {"acquire"},
    {"pipelines"},
    {"bench"},
    {"report"},
    {"many"},
    {"serving", "napari_plugin"},
    {"cli"},
)
RANK = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}
DATASETS_MAY_IMPORT = {
    "errors",
    "version",
    "config",
    "gaussian",
    "noise",
    "scaling",
    "operators",
    "problem",
}

TORCH_DRAWS = {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial"}
TORCH_DRAWS |= {"poisson", "rand_like", "randn_like", "randint_like"}
IN_PLACE_DRAWS = {"normal_", "uniform_", "bernoulli_", "random_", "exponential_", "cauchy_"}
IN_PLACE_DRAWS |= {"log_normal_", "geometric_"}
GLOBAL_SEEDS = {"torch.manual_seed", "torch.seed", "torch.cuda.manual_seed", "torch.initial_seed"}
NUMPY_GENERATORS = {"default_rng", "Generator", "SeedSequence", "PCG64", "Philox", "BitGenerator"}
NUMPY_GENERATORS |= {"RandomState"}  # an own object too; fastMRI's masks are defined by its draws
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN_CALLS = {"torch.load", "torch.save", "eval", "exec", "yaml.load", "os.system"}

Rule = Callable[[str, ast.Module], Iterator[tuple[int, str]]]


def dotted(node: ast.expr) -> str:
    """`a.b.c` of names and attributes; what is neither, such as a call, becomes a question mark."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return "?"


def calls(tree: ast.Module) -> Iterator[tuple[ast.Call, str]]:
    return ((n, dotted(n.func)) for n in ast.walk(tree) if isinstance(n, ast.Call))


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and full name of every imported module; `from a import b` gives a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)


def torch_draws_from_a_generator(module: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    for call, name in calls(tree):
        owner, _, last = name.rpartition(".")
        draws = (owner == "torch" and last in TORCH_DRAWS) or last in IN_PLACE_DRAWS
        if draws and "generator" not in {k.arg for k in call.keywords}:
            yield call.lineno, f"{name} without generator="
        if name in GLOBAL_SEEDS:
            yield call.lineno, f"{name} changes the global generator"


def numpy_draws_from_a_generator(module: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    for call, name in calls(tree):
        if re.match(r"(np|numpy)\.random\.", name) and name.split(".")[2] not in NUMPY_GENERATORS:
            yield call.lineno, f"{name} draws from the global generator"
    for line, name in imported(tree):
        if name.split(".")[0] == "random":
            yield line, "module random draws from a global generator"


def nothing_is_unpickled_or_evaluated(module: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    for line, name in imported(tree):
        if name.split(".")[0] in FORBIDDEN_MODULES:
            yield line, f"import of {name}"
    for call, name in calls(tree):
        allowing = [k for k in call.keywords if k.arg in ("allow_pickle", "force", "shell")]
        for keyword in allowing:
            if isinstance(keyword.value, ast.Constant) and keyword.value.value is True:
                yield call.lineno, f"{name}({keyword.arg}=True)"
        if name in FORBIDDEN_CALLS:
            yield call.lineno, f"call of {name}"


def archives_are_never_unpacked_blindly(module: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in ("extractall", "unpack_archive"):
            yield node.lineno, f"{node.attr} trusts the names in an archive"


def only_the_command_line_prints(module: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    if not module.startswith("restore.cli"):
        yield from (
            (c.lineno, "print in the library") for c, name in calls(tree) if name == "print"
        )


def imports_are_absolute_and_by_one_name(
    module: str, tree: ast.Module
) -> Iterator[tuple[int, str]]:
    for line, name in imported(tree):
        if name.startswith("."):
            yield line, f"relative import {name}"
        elif name.split(".")[0] in PACKAGE[1:]:
            yield line, f"{name}: say restore.{name}"


def lower_layers_know_no_higher(module: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    own = module.split(".")[1] if "." in module else ""
    if not own:  # restore/__init__.py hands out names of every layer
        return
    if own not in RANK:
        yield 1, f"'{own}' has no place in LAYERS of this test"
        return
    for line, name in imported(tree):
        root, _, rest = name.partition(".")
        target = rest.split(".")[0]
        if root != "restore" or target == own or target not in RANK:
            continue
        unknown = own == "datasets" and target not in DATASETS_MAY_IMPORT
        if RANK[target] >= RANK[own] or unknown:
            yield line, f"{own} imports {target}"


def every_module_says_what_it_is_for(module: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    if not ast.get_docstring(tree):
        yield 1, "no docstring"


def docstrings_say_something(module: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """No docstring without a word, and no remains of an edit: blank lines in a row, two full stops."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=False)
            left = r"\n[ \t]*\n[ \t]*\n|[^.]\.\.\s*$"
            if text is not None and (not re.search(r"\w", text) or re.search(left, text)):
                yield getattr(node, "lineno", 1), f"docstring {text[-30:]!r}"


def functions_are_short(module: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[1:2] or node.body if ast.get_docstring(node) else node.body
            lines = (node.end_lineno or 0) - first[0].lineno + 1
            if lines > FUNCTION_LINES:
                yield node.lineno, f"{node.name} has {lines} lines below its docstring"


def packages_hide_no_module(module: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """A name that a package hands out may not be that of a module in it: it would hide the module."""
    inside = modules_in(module)
    for line, name in imported(tree):
        hidden = name.rpartition(".")[2]
        if hidden in inside and name != f"{module}.{hidden}":
            yield line, f"{name} hides the module {module}.{hidden}"
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            keys = [k for k in node.value.keys if isinstance(k, ast.Constant)]
            yield from ((k.lineno, f"{k.value} is a module") for k in keys if k.value in inside)


def no_function_bears_its_modules_name(module: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """`from package import name` would give one or the other, by the order of imports."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == module.split(".")[-1]:
            yield node.lineno, f"{node.name} has the name of its module"


# A rule, and a line that breaks it as if it stood in the module named first.
RULES: list[tuple[Rule, str, str]] = [
    (torch_draws_from_a_generator, "restore.noise", "torch.randn(3)"),
    (numpy_draws_from_a_generator, "restore.noise", "np.random.normal(size=3)"),
    (nothing_is_unpickled_or_evaluated, "restore.priors.store", "torch.load(path)"),
    (
        archives_are_never_unpacked_blindly,
        "restore.datasets.fetching",
        "archive.extractall(folder)",
    ),
    (only_the_command_line_prints, "restore.samplers.dds", "print(1)"),
    (imports_are_absolute_and_by_one_name, "restore.front_door", "from operators.ct import fbp"),
    (
        lower_layers_know_no_higher,
        "restore.operators.ct.parallel_beam",
        "from restore.priors import base",
    ),
    (
        lower_layers_know_no_higher,
        "restore.linalg.conjugate_gradients",
        "import restore.datasets.scan",
    ),
    (lower_layers_know_no_higher, "restore.datasets.scan", "from restore import metrics"),
    (lower_layers_know_no_higher, "restore.newcomer", "x = 1"),
    (every_module_says_what_it_is_for, "restore.errors", "x = 1"),
    (docstrings_say_something, "restore.errors", '"""."""'),
    (docstrings_say_something, "restore.errors", 'def f():\n    """Half of it..\n\n\n    """'),
    (packages_hide_no_module, "restore", "from restore.front_door import cli"),
    (packages_hide_no_module, "restore.operators", '_MODULE_OF = {"ct": "ct.parallel_beam"}'),
    (no_function_bears_its_modules_name, "restore.solvers.cg", "def cg(): ..."),
    (functions_are_short, "restore.errors", "def f():\n    x = [" + "\n" * 60 + "    ]"),
]


@functools.cache
def package_files() -> tuple[Path, ...]:
    """Python files of the package, each once: the links in restore/ are not followed."""
    found = (p for folder in PACKAGE for p in (ROOT / folder).rglob("*.py"))
    links = [
        ROOT / "restore" / name for name in PACKAGE[1:] if (ROOT / "restore" / name).is_symlink()
    ]
    return tuple(sorted(p for p in found if not any(p.is_relative_to(link) for link in links)))


@functools.cache
def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "restore" else ("restore", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def modules_in(package: str) -> frozenset[str]:
    """Last names of the modules and packages directly inside a package; none for a plain module."""
    names = map(module_name, package_files())
    inside = (n.removeprefix(f"{package}.") for n in names if n.startswith(f"{package}."))
    return frozenset(rest.split(".")[0] for rest in inside)


def import_graph(trees: Mapping[str, ast.Module]) -> tuple[list[str], np.ndarray]:
    """Names of modules, and which imports which: anywhere in its file, in a function too, by whatever link."""
    names = sorted(trees)
    graph = np.zeros((len(names), len(names)), bool)
    for i, module in enumerate(names):
        for _, target in imported(trees[module]):
            while target and target not in trees:
                target = target.rpartition(".")[0]
            if target and target != module:
                graph[i, names.index(target)] = True
    return names, graph


def import_circles(trees: Mapping[str, ast.Module]) -> list[frozenset[str]]:
    """Every set of modules that reach each other by imports."""
    names, graph = import_graph(trees)
    count, label = connected_components(graph, directed=True, connection="strong")
    sets = [frozenset(n for n, k in zip(names, label, strict=True) if k == c) for c in range(count)]
    return [s for s in sets if len(s) > 1]


def text_files() -> Iterator[Path]:
    """Text of the repository: the working folders and the files at the root, but not what others wrote (vendor)."""
    for folder in (*PACKAGE, *ELSEWHERE):
        files = (p for p in (ROOT / folder).rglob("*") if "vendor" not in p.parts)
        yield from (p for p in files if p.is_file())
    at_the_root = (p for p in ROOT.iterdir() if p.name != ".git")  # a file in a worktree
    yield from (p for p in at_the_root if p.is_file())


@pytest.fixture(scope="module")
def trees() -> dict[Path, ast.Module]:
    return {p: ast.parse(p.read_text(encoding="utf-8")) for p in package_files()}


def test_the_package_is_found(trees: dict[Path, ast.Module]):
    names = {module_name(p) for p in trees}
    assert {"restore", "restore.operators.base", "restore.datasets.scan", "restore.cli"} <= names


@pytest.mark.parametrize("rule", list(dict.fromkeys(r for r, _, _ in RULES)))
def test_package_follows(rule: Rule, trees: dict[Path, ast.Module]):
    broken = [
        f"{path.relative_to(ROOT)}:{line}: {what}"
        for path, tree in trees.items()
        for line, what in rule(module_name(path), tree)
    ]
    assert not broken, "\n" + "\n".join(broken)


@pytest.mark.parametrize(("rule", "module", "line"), RULES)
def test_rule_notices(rule: Rule, module: str, line: str):
    assert list(rule(module, ast.parse(line)))


def test_no_module_is_imported_in_a_circle(trees: dict[Path, ast.Module]):
    """Imports inside functions count: what needs them to load has its parts in the wrong files."""
    found = import_circles({module_name(p): tree for p, tree in trees.items()})
    assert not found, f"modules that import each other: {[sorted(c) for c in found]}"


def test_a_planted_circle_is_noticed():
    """Also one that goes through the links, through names of a package and through a function."""
    planted = {
        "restore": "from restore.datasets.open import read",
        "restore.datasets.open": "import restore.operators.base",
        "restore.operators.base": "def late():\n    from restore import __version__",
        "restore.errors": "import json",
        "restore.noise": "from restore.errors import ConfigError\nfrom restore import errors",
    }
    (circle,) = import_circles({name: ast.parse(code) for name, code in planted.items()})
    assert circle == {"restore", "restore.datasets.open", "restore.operators.base"}


def test_files_are_short():
    long = {p: len(p.read_text(encoding="utf-8").splitlines()) for p in package_files()}
    assert not {str(p.relative_to(ROOT)): n for p, n in long.items() if n > FILE_LINES}


def test_no_collection_of_odds_and_ends():
    assert not [
        p for p in package_files() if p.stem in ("utils", "util", "common", "helpers", "misc")
    ]


def test_no_path_of_one_machine():
    """Absolute paths of a developer's machine mean nothing on another; tests may invent a home."""
    found = []
    for path in text_files():
        if path.suffix in BINARY or path == Path(__file__):
            continue
        places = "work|root" if path.is_relative_to(ROOT / "tests") else "work|root|home|Users"
        machine = re.compile(rf"(?<![\w.~}}])/({places})/")
        for number, line in enumerate(path.read_text("utf-8", errors="ignore").splitlines(), 1):
            if machine.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert not found, "\n" + "\n".join(found)
