"""Packages: the same files give the same bytes, and what cannot work is refused before it is sent."""

import io
import os
import stat
import zipfile
from pathlib import Path

import pytest

from cli import package
from cli.failures import CliError
from cli.package import check_handler, check_size, read_package, zip_folder
from services.policy.package_rules import check_package


def make(folder: Path, *names: str) -> Path:
    """A folder with these files."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {name}\n")
    return folder


def names_in(data: bytes) -> list[str]:
    """The entries of a zip."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return archive.namelist()


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    """Whatever their times, the order they were made in, and what Python left beside them."""
    first = make(tmp_path / "a", "app.py", "lib/x.py", "lib/y.py")
    second = make(tmp_path / "b", "lib/y.py", "lib/x.py", "app.py", "__pycache__/app.pyc", ".git/HEAD", "old.pyc")
    make(second, "evenflow.toml")
    os.utime(second / "app.py", (1, 1))
    assert zip_folder(first) == zip_folder(second)
    assert names_in(zip_folder(second)) == ["app.py", "lib/x.py", "lib/y.py"]
    # What control and the hosts ask of a package.
    assert [entry.name for entry in check_package(zip_folder(first))] == ["app.py", "lib/x.py", "lib/y.py"]


def test_executables_stay_executable_and_links_become_files(tmp_path: Path) -> None:
    """As zip does; a link to a folder, or one that leads nowhere, is refused by name."""
    folder = make(tmp_path / "a", "app.py", "tool")
    (folder / "tool").chmod(0o755)
    (folder / "alias.py").symlink_to("app.py")
    with zipfile.ZipFile(io.BytesIO(zip_folder(folder))) as archive:
        modes = {info.filename: info.external_attr >> 16 for info in archive.infolist()}
        assert archive.read("alias.py") == b"# app.py\n"
    assert modes["tool"] & stat.S_IXUSR and not modes["app.py"] & stat.S_IXUSR
    assert all(stat.S_ISREG(mode) for mode in modes.values())
    (folder / "nowhere").symlink_to("missing")
    with pytest.raises(CliError, match="nowhere"):
        zip_folder(folder)
    (folder / "nowhere").unlink()
    (folder / "up").symlink_to(tmp_path)
    with pytest.raises(CliError, match="a link to a folder"):
        zip_folder(folder)


def test_what_is_too_much_or_too_little_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No files; more files, bytes or packed bytes than a package has."""
    with pytest.raises(CliError, match="there are no files"):
        zip_folder(make(tmp_path / "empty", "__pycache__/x.pyc"))
    folder = make(tmp_path / "a", "app.py", "b.py")
    for name, words in (("MAX_FILES", "files"), ("MAX_UNPACKED_BYTES", "bytes"), ("MAX_PACKAGE_BYTES", "at most 1 ")):
        with monkeypatch.context() as patch:
            patch.setattr(package, name, 1)
            with pytest.raises(CliError, match=words):
                zip_folder(folder)
    (tmp_path / "x.zip").write_bytes(b"12")
    monkeypatch.setattr(package, "MAX_PACKAGE_BYTES", 1)
    with pytest.raises(CliError, match=r"x.zip: 2 bytes; a package has at most 1"):
        read_package(tmp_path / "x.zip")


@pytest.mark.parametrize(
    ("handler", "file"),
    [
        ("app.handler", "app.py"),
        ("pkg.app.handler", "pkg/app.py"),
        ("pkg/app.handler", "pkg/app.py"),
        ("pkg.handler", "pkg/__init__.py"),
        ("fast.handler", "fast.cpython-311-x86_64-linux-gnu.so"),
    ],
)
def test_the_handlers_module_is_found(tmp_path: Path, handler: str, file: str) -> None:
    """As a file, a package or an extension; elsewhere it is missed by name."""
    check_handler(zip_folder(make(tmp_path / "a", file)), handler, tmp_path)
    with pytest.raises(CliError, match="which is not in the package"):
        check_handler(zip_folder(make(tmp_path / "b", "other.py")), handler, tmp_path)


@pytest.mark.parametrize("handler", ["app", ".handler", "app."])
def test_a_handler_without_both_parts(handler: str) -> None:
    """MODULE.FUNCTION is expected."""
    with pytest.raises(CliError, match=r"MODULE\.FUNCTION"):
        check_handler(b"", handler, Path("x"))


def test_what_is_no_zip_is_named(tmp_path: Path) -> None:
    """Before it is sent."""
    with pytest.raises(CliError, match=r"bad\.zip: no zip file"):
        check_handler(b"PK\3\4 nothing", "app.handler", tmp_path / "bad.zip")


@pytest.mark.parametrize("file", ["index.js", "index.mjs", "index.cjs"])
def test_a_node_handlers_module_is_found(tmp_path: Path, file: str) -> None:
    """By Node's endings; dots are not folders there."""
    check_handler(zip_folder(make(tmp_path / "a", file)), "index.handler", tmp_path, "nodejs20.x")
    check_handler(zip_folder(make(tmp_path / "b", f"src/{file}")), "src/index.handler", tmp_path, "nodejs20.x")
    with pytest.raises(CliError, match=r"needs src\.index\.js"):
        check_handler(zip_folder(tmp_path / "b"), "src.index.handler", tmp_path, "nodejs20.x")


def test_a_provided_runtime_needs_a_program(tmp_path: Path) -> None:
    """An executable bootstrap in the package, or in the layer that lies on top; its handler is free."""
    package, layer = make(tmp_path / "a", "app.rb"), make(tmp_path / "l", "bootstrap")
    code, plain = zip_folder(package), zip_folder(layer)
    with pytest.raises(CliError, match="starts an executable file bootstrap"):
        check_handler(code, "whatever", package, "provided.al2023")
    with pytest.raises(CliError, match=r"not executable: chmod \+x"):
        check_handler(code, "whatever", package, "provided.al2023", [plain])
    (layer / "bootstrap").chmod(0o755)
    check_handler(code, "whatever", package, "provided.al2023", [plain, zip_folder(layer)])
    with pytest.raises(CliError, match="not executable"):
        check_handler(code, "whatever", package, "provided.al2023", [zip_folder(layer), plain])
    check_handler(zip_folder(layer), "whatever", package, "provided.al2023", [plain])


def test_a_handler_may_be_in_a_layer(tmp_path: Path) -> None:
    """Where Python finds it at run time."""
    layer = zip_folder(make(tmp_path / "l", "python/app.py"))
    check_handler(zip_folder(make(tmp_path / "a", "other.py")), "app.handler", tmp_path, "python3", [layer])


def test_code_and_layers_have_one_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they unpack to, together."""
    data = zip_folder(make(tmp_path / "a", "x.py"))
    monkeypatch.setattr(package, "MAX_UNPACKED_BYTES", 20)
    check_size(data, [data], tmp_path)
    with pytest.raises(CliError, match="code and layers unpack to 21 bytes; at most 20"):
        check_size(data, [data, data], tmp_path)
