import hashlib
import sys
import textwrap

import pytest

from trainer.registry import Origin, Registry


def has_area(name, entry):
    if not hasattr(entry, "area"):
        raise TypeError(f"shape {name!r} lacks area")


class Square:
    area = 4


@pytest.fixture
def shapes():
    return Registry("shape", "example.shapes", has_area, {"square": Square, "circle": "planted_shapes:Circle"})


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """A module outside the packages, found as in the current directory."""
    file = tmp_path / "planted_shapes.py"
    file.write_text(
        textwrap.dedent("""
        __version__ = "1.2"

        class Circle:
            area = 3

        class Line:
            pass

        class Nested:
            Inner = Circle
    """)
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield file
    sys.modules.pop("planted_shapes", None)


def test_built_in_is_imported_when_it_is_first_needed(shapes, planted):
    assert "planted_shapes" not in sys.modules
    assert shapes.get("circle").area == 3
    assert shapes.origin("circle") is None


def test_entry_is_found_as_module_and_name(shapes, planted):
    assert shapes.get("planted_shapes:Nested.Inner") is shapes.get("planted_shapes:Circle")


def test_origin_is_the_module_its_version_and_the_hash_of_its_source(shapes, planted):
    sha256 = hashlib.sha256(planted.read_bytes()).hexdigest()
    assert shapes.origin("planted_shapes:Circle") == Origin("planted_shapes", "1.2", sha256)


def test_entry_point_is_loaded_when_its_name_is_needed(shapes, planted, tmp_path):
    folder = tmp_path / "planted_shapes-3.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: planted_shapes\nVersion: 3\n")
    (folder / "entry_points.txt").write_text("[example.shapes]\ndisc = planted_shapes:Circle\n")
    sys.path.insert(0, str(tmp_path))
    assert shapes.names() == ["circle", "disc", "square"]
    assert "planted_shapes" not in sys.modules
    assert shapes.get("disc").area == 3
    assert shapes.origin("disc").version == "3"


def test_added_entry_is_returned_and_may_be_replaced(shapes):
    @shapes.add("triangle")
    class Triangle:
        area = 1

    assert shapes.get("triangle") is Triangle
    assert shapes.origin("triangle").module == __name__
    value = shapes.add("triangle", Square())
    assert shapes.get("triangle") is value
    assert shapes.origin("triangle").module == __name__


@pytest.mark.parametrize("name", ["square", "a:b"])
def test_name_of_a_built_in_or_with_a_colon_cannot_be_added(shapes, name):
    with pytest.raises(ValueError, match=name):
        shapes.add(name, Square)


def test_lacking_part_is_named_at_registration(shapes, planted):
    with pytest.raises(TypeError, match="shape 'line' lacks area"):
        shapes.add("line", object())
    with pytest.raises(TypeError, match="lacks area"):
        shapes.get("planted_shapes:Line")


def test_unknown_name_is_answered_with_the_nearest_and_the_list(shapes):
    with pytest.raises(LookupError, match=r"unknown shape 'sqare'; did you mean 'square'\? valid: circle, square"):
        shapes.get("sqare")


@pytest.mark.parametrize("name", ["no_such_module:x", "planted_shapes:NoSuchName"])
def test_what_cannot_be_imported_is_named_with_the_reason(shapes, planted, name):
    with pytest.raises(LookupError, match=rf"cannot import {name} \((ModuleNotFound|Attribute)Error"):
        shapes.get(name)
