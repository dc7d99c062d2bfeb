"""Code packages: a folder as a zip that is the same bytes whenever its files are."""

import os
import stat
import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path, PurePosixPath

from cli.failures import CliError
from cli.manifest import DEFAULT_RUNTIME, MANIFEST_NAME
from services.policy.function_rules import NODE_RUNTIMES, PROVIDED_RUNTIMES

MAX_PACKAGE_BYTES = 52_428_800
MAX_UNPACKED_BYTES = 262_144_000
MAX_FILES = 20_000
SKIPPED_FOLDERS = {"__pycache__", ".git", ".venv", ".evenflow", ".mypy_cache", ".ruff_cache", ".pytest_cache"}
SKIPPED_SUFFIXES = {".pyc", ".pyo"}
# The first moment that a zip can tell; real times would change the package's hash with every checkout.
FIXED_TIME = (1980, 1, 1, 0, 0, 0)
_MODULE_ENDS = (".py", "/__init__.py", ".so", ".pyc")
_NODE_ENDS = (".js", ".mjs", ".cjs")


def read_package(code: Path) -> bytes:
    """The package of a folder or of a zip file. CliError: it cannot be read, or is too large."""
    if code.is_dir():
        return zip_folder(code)
    try:
        size_bytes = code.stat().st_size
        if size_bytes > MAX_PACKAGE_BYTES:
            raise CliError(f"{code}: {size_bytes:,} bytes; a package has at most {MAX_PACKAGE_BYTES:,}")
        return code.read_bytes()
    except OSError as e:
        raise CliError(f"{code}: {e.strerror}") from None


def zip_folder(folder: Path) -> bytes:
    """A zip of the folder's files in order, with fixed times. CliError: nothing in it, too much, or a broken link."""
    paths = _files_of(folder)
    if not paths:
        raise CliError(f"{folder}: there are no files to deploy")
    buffer = BytesIO()
    total_bytes = 0
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, path in paths:
            try:
                data = path.read_bytes()
                is_executable = path.stat().st_mode & stat.S_IXUSR
            except OSError as e:
                raise CliError(f"{path}: {e.strerror}") from None
            total_bytes += len(data)
            if total_bytes > MAX_UNPACKED_BYTES:
                raise CliError(f"{folder}: more than {MAX_UNPACKED_BYTES:,} bytes")
            entry = zipfile.ZipInfo(name, FIXED_TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = (stat.S_IFREG | (0o755 if is_executable else 0o644)) << 16
            archive.writestr(entry, data)
    package = buffer.getvalue()
    if len(package) > MAX_PACKAGE_BYTES:
        raise CliError(f"{folder}: the package has {len(package):,} bytes; at most {MAX_PACKAGE_BYTES:,} are taken")
    return package


def _files_of(folder: Path) -> list[tuple[str, Path]]:
    found: list[tuple[str, Path]] = []
    for root, folders, files in os.walk(folder):
        # Links to files are packed as what they point to; links to folders might never end.
        for name in folders:
            if name not in SKIPPED_FOLDERS and os.path.islink(os.path.join(root, name)):
                raise CliError(f"{os.path.join(root, name)}: a link to a folder is not packed; copy the folder")
        folders[:] = [name for name in folders if name not in SKIPPED_FOLDERS]
        for name in files:
            path = Path(root, name)
            relative = str(PurePosixPath(path.relative_to(folder)))
            if path.suffix in SKIPPED_SUFFIXES or relative == MANIFEST_NAME:
                continue
            if not path.is_file():
                raise CliError(f"{path}: neither a file nor a folder, or a link that leads nowhere")
            found.append((relative, path))
            if len(found) > MAX_FILES:
                raise CliError(f"{folder}: more than {MAX_FILES:,} files")
    return sorted(found)


def check_handler(
    package: bytes, handler: str, code: Path, runtime: str = DEFAULT_RUNTIME, layers: Sequence[bytes] = ()
) -> None:
    """Pass when what the runtime starts is in the package, or in a layer. CliError: it is not, or one is no zip."""
    if runtime in PROVIDED_RUNTIMES:
        _check_bootstrap([package, *layers], code)
        return
    module, dot, function = handler.rpartition(".")
    if not dot or not module or not function:
        raise CliError(f"handler {handler!r}: MODULE.FUNCTION is expected, such as app.lambda_handler")
    names, is_node = _names_in(package, code), runtime in NODE_RUNTIMES
    path = module if is_node else module.replace(".", "/")
    ends: tuple[str, ...] = _NODE_ENDS if is_node else _MODULE_ENDS
    if not is_node:
        # A layer's modules are beside the function's own.
        names = names | {
            name.partition("python/")[2] for layer in layers for name in _names_in(layer, code) if "python/" in name
        }
    for name in names:
        if any(name == path + end for end in ends):
            return
        # Extension modules carry the platform: app.cpython-311-x86_64-linux-gnu.so.
        if name.startswith(path + ".") and name.endswith(".so"):
            return
    raise CliError(f"{code}: handler {handler!r} needs {path}{ends[0]}, which is not in the package")


def check_size(package: bytes, layers: Sequence[bytes], code: Path) -> None:
    """Pass when code and layers unpack to what a sandbox may have. CliError: it is more."""
    total_bytes = sum(info.file_size for data in (package, *layers) for info in _entries_in(data, code))
    if total_bytes > MAX_UNPACKED_BYTES:
        raise CliError(
            f"{code}: code and layers unpack to {total_bytes:,} bytes; at most {MAX_UNPACKED_BYTES:,} are possible"
        )


def _check_bootstrap(packages: Sequence[bytes], code: Path) -> None:
    """Of the package, else of a layer, where the last one lies on top."""
    for package in (packages[0], *reversed(packages[1:])):
        for info in _entries_in(package, code):
            if info.filename == "bootstrap":
                if not info.external_attr >> 16 & stat.S_IXUSR:
                    raise CliError(f"{code}: bootstrap is not executable: chmod +x it")
                return
    raise CliError(f"{code}: a provided runtime starts an executable file bootstrap, which is not in the package")


def _names_in(package: bytes, code: Path) -> set[str]:
    return {info.filename for info in _entries_in(package, code)}


def _entries_in(package: bytes, code: Path) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(BytesIO(package)) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as e:
        raise CliError(f"{code}: no zip file: {e}") from None
