"""Methods are found by file name; those of others by entry point. Nothing is registered, nothing imported early."""

import importlib
import sys
from pathlib import Path

import pytest

from clip_unlearn import methods
from clip_unlearn.core import discovery
from clip_unlearn.core.method import Method
from clip_unlearn.errors import UnknownNameError

METHOD = """
from clip_unlearn.core.method import Method
from clip_unlearn.core.patch import Patch

class {name}(Method):
    strength: float = 1.0

    def forget(self, model, request):
        return Patch()
"""


class Shelf:
    """A package in a temporary folder, and a distribution with entry points beside it."""

    def __init__(self, folder: Path, patcher: pytest.MonkeyPatch) -> None:
        self.folder, self.patcher = folder, patcher
        patcher.syspath_prepend(folder)

    def write(self, path: str, text: str = "") -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def package(self, name: str = "shelf_of_tests"):
        for module in [name for name in sys.modules if name.startswith("shelf_of_tests")]:
            self.patcher.delitem(sys.modules, module)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    def distribution(self, **points: str) -> None:
        lines = "".join(f"{name} = {target}\n" for name, target in points.items())
        self.write("guest-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: guest\nVersion: 1.0\n")
        self.write("guest-1.0.dist-info/entry_points.txt", f"[{methods.GROUP}]\n{lines}")
        importlib.invalidate_caches()


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    shelf = Shelf(tmp_path, monkeypatch)
    shelf.write("shelf_of_tests/__init__.py")
    return shelf


def find(package, name: str) -> type[Method]:
    return discovery.find(name, package, Method, group="nobody", what="method")


def test_files_are_names_without_being_imported(shelf):
    shelf.write("shelf_of_tests/broken.py", "raise RuntimeError")
    shelf.write("shelf_of_tests/deep/__init__.py")
    shelf.write("shelf_of_tests/deep/inner.py", METHOD.format(name="Inner"))
    shelf.write("shelf_of_tests/_private.py", "raise RuntimeError")
    shelf.write("shelf_of_tests/_hidden/__init__.py")
    shelf.write("shelf_of_tests/_hidden/method.py")
    package = shelf.package()
    assert discovery.names(package, group="nobody") == ("broken", "inner")
    assert find(package, "inner").__name__ == "Inner"


def test_the_one_subclass_of_the_file_is_taken(shelf):
    shelf.write("shelf_of_tests/one.py", METHOD.format(name="One"))
    shelf.write("shelf_of_tests/two.py", "from shelf_of_tests.one import One\n" + METHOD.format(name="Two"))
    assert find(shelf.package(), "two")(strength=0.5).strength == 0.5


@pytest.mark.parametrize("names", [(), ("A", "B")])
def test_a_file_must_define_exactly_one(shelf, names):
    shelf.write("shelf_of_tests/wrong.py", "".join(METHOD.format(name=name) for name in names))
    with pytest.raises(TypeError, match=rf"must define exactly one Method, not {len(names)}$"):
        find(shelf.package(), "wrong")


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(
        UnknownNameError, match=r"^Unknown method 'projekt'\. Did you mean 'project'\? Known: .*project"
    ):
        methods.find("projekt")


@pytest.mark.parametrize("target", ["guest_method", "guest_method:Guest"])
def test_a_method_of_others_is_found_by_its_entry_point(shelf, target):
    shelf.write("guest_method.py", METHOD.format(name="Guest"))
    shelf.distribution(guest=target)
    shelf.patcher.delitem(sys.modules, "guest_method", raising=False)
    assert "guest" in methods.names()
    assert "guest_method" not in sys.modules
    assert methods.find("guest")(strength=0.25).model_dump() == {"strength": 0.25}


def test_an_entry_point_to_something_else_is_refused(shelf):
    shelf.distribution(guest="pathlib:Path")
    with pytest.raises(TypeError, match="is not a Method"):
        methods.find("guest")


def test_an_own_method_wins_over_a_guest_of_its_name(shelf):
    shelf.distribution(project="pathlib:Path")
    assert methods.find("project").__module__ == "clip_unlearn.methods.project"
    assert methods.names().count("project") == 1


def test_two_files_of_one_name_are_refused(shelf):
    for folder in ("one", "two"):
        shelf.write(f"shelf_of_tests/{folder}/__init__.py")
        shelf.write(f"shelf_of_tests/{folder}/same.py")
    with pytest.raises(TypeError, match=r"two\.same and .*one\.same have the same name$"):
        discovery.names(shelf.package(), group="nobody")
