import pytest

from clip_unlearn.data.names import parse_concept, read_names
from clip_unlearn.errors import DataError, RequestError


def test_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mug").write_text("not\nmeant\n")
    assert read_names("mug") == ("mug",)
    assert read_names("  St.  Bernard ") == ("St. Bernard",)
    assert read_names("AC/DC") == ("AC/DC",)
    assert read_names("x" * 100 + "/" + "y" * 99) == ("x" * 100 + "/" + "y" * 99,)


@pytest.mark.parametrize("name", ["names.txt", "names.lst", "folder/names"])
def test_a_file(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes("\ufeffmug | cup\r\n\n  fire truck\n\t\ncafe\u0301".encode())
    assert read_names(str(path)) == ("mug | cup", "fire truck", "caf\u00e9")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"mug\ncaf\xe9\n", "is not UTF-8 text"),
        (b"mug\nc\x07p\n", r"names.txt line 2: Name 'c\\x07p' holds control characters"),
        (b"mug\0\n", "holds NUL"),
        (b"\n \n", "holds no names"),
        (b"x" * 201, "line 1: .* has 201 characters"),
        (b"x" * 10_000_001, "larger than 10 MB"),
    ],
)
def test_malformed_files(tmp_path, content, match):
    (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(DataError, match=match):
        read_names(str(tmp_path / "names.txt"))


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_names(str(tmp_path / "no.txt"))
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        read_names(str(tmp_path / "folder.txt"))


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\0b", "x" * 201, "x" * 5000, "a/" + "x" * 5000, "{x}"])
def test_malformed_names(name):
    with pytest.raises(RequestError):
        read_names(name)


def test_concepts():
    assert parse_concept("mug | beaker | cup").names == ("mug", "beaker", "cup")
    assert parse_concept("mug").names == ("mug",)
    for text in ("mug | ", "| mug", "", "mug | c\x07p"):
        with pytest.raises(RequestError):
            parse_concept(text)
