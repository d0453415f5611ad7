import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("campaign", "continuum", "ml", "selector")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel of this tree, unpacked where nothing else is importable from."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*command, "--quiet", "--wheel-dir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
        text=True,
    )
    (wheel,) = folder.glob("bilayer-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_holds_every_module_preset_and_type_marker(installed):
    for package in PACKAGES:
        for source in (ROOT / package).rglob("*"):
            if source.suffix in (".py", ".yaml") or source.name == "py.typed":
                assert (installed / source.relative_to(ROOT)).is_file(), source


def test_the_sciences_import_without_ray_torch_and_mpi(installed):
    """`pip install bilayer` brings none of the three."""
    modules = [
        ".".join(path.relative_to(installed).with_suffix("").parts)
        for package in ("continuum", "selector")
        for path in (installed / package).rglob("*.py")
        if path.name != "__main__.py"
    ]
    script = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("ray", "torch", "mpi4py"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
sys.path.insert(0, {str(installed)!r})
import importlib
for name in {modules!r}:
    module = importlib.import_module(name)
    assert module.__file__.startswith({str(installed)!r}), module.__file__
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-I", "-c", script],
        cwd=installed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
