"""Generates gen/evenflow/**/*_pb2*.py and their type stubs from protos/; does nothing when they are current."""

import hashlib
import importlib.resources
import os
import shutil
import sys
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
GEN = ROOT / "gen"
STAMP = GEN / ".inputs.sha256"


def inputs_hash(files: list[Path]) -> str:
    """Changes when a proto, this script or the compiler's version does."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    digest.update((ROOT / "requirements" / "run.txt").read_bytes())
    for file in files:
        digest.update(str(file.relative_to(PROTOS)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def main() -> int:
    """Generate; the exit code is the compiler's."""
    files = sorted(PROTOS.rglob("*.proto"))
    wanted = inputs_hash(files)
    if STAMP.exists() and STAMP.read_text() == wanted:
        return 0
    # mypy-protobuf's plugins stand beside this interpreter, which need not be on PATH.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    fresh = ROOT / "gen.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    well_known = importlib.resources.files("grpc_tools") / "_proto"
    code = protoc.main(
        [
            "protoc",
            f"--proto_path={PROTOS}",
            f"--proto_path={well_known}",
            f"--python_out={fresh}",
            f"--grpc_python_out={fresh}",
            f"--mypy_out=quiet:{fresh}",
            f"--mypy_grpc_out=quiet:{fresh}",
            *(str(f) for f in files),
        ]
    )
    if code != 0:
        print("protos: protoc failed; the messages above say where", file=sys.stderr)
        return int(code)
    for folder in {f.parent for f in fresh.rglob("*.py")} | {fresh / "evenflow"}:
        for level in (folder, *folder.relative_to(fresh).parents):
            target = fresh / level if not level.is_absolute() else level
            if target != fresh:
                (target / "__init__.py").touch()
    (fresh / "evenflow" / "py.typed").touch()
    (fresh / STAMP.name).write_text(wanted)
    shutil.rmtree(GEN, ignore_errors=True)
    fresh.rename(GEN)
    return 0


if __name__ == "__main__":
    sys.exit(main())
