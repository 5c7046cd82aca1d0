"""Nothing that is read runs: no pickle, no shell, no code in data; and this holds for every line to come."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(
    file
    for folder in ("emlib", "benchmarks", "tests")
    for file in (ROOT / folder).rglob("*.py")
    if file != Path(__file__)
)
LIBRARY = [file for file in FILES if file.is_relative_to(ROOT / "emlib")]


def calls(file):
    """(name as it is written, its keywords, line) of each call."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            words = {
                word.arg: word.value.value if isinstance(word.value, ast.Constant) else ... for word in node.keywords
            }
            yield ast.unparse(node.func), words, node.lineno


def unsafe(name, words):
    """What is wrong with a call, if anything."""
    if name == "torch.load" and words.get("weights_only") is not True:
        return "torch.load without weights_only=True"
    if name in ("np.load", "numpy.load") and words.get("allow_pickle") is not False:
        return "np.load without allow_pickle=False"
    if name in ("pickle.load", "pickle.loads", "pickle.Unpickler", "joblib.load", "torch.hub.load"):
        return f"{name} runs what it reads"
    if name in ("os.system", "os.popen", "eval", "exec", "yaml.load", "subprocess.getoutput") or words.get("shell"):
        return f"{name} runs words as code"
    return None


@pytest.mark.parametrize("file", LIBRARY, ids=lambda file: str(file.relative_to(ROOT)))
def test_the_library_runs_nothing_that_it_reads(file):
    bad = [(line, wrong) for name, words, line in calls(file) if (wrong := unsafe(name, words))]
    assert bad == []


def test_no_shell_anywhere():
    bad = [(str(file), line) for file in FILES for name, words, line in calls(file) if words.get("shell")]
    assert bad == []


@pytest.mark.parametrize(
    "code",
    [
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "np.load(f)",
        "pickle.loads(x)",
        "subprocess.run(x, shell=True)",
    ],
)
def test_the_check_itself_finds_each(code, tmp_path):
    (tmp_path / "x.py").write_text(code)
    assert [unsafe(name, words) for name, words, _ in calls(tmp_path / "x.py")] != [None]
