"""Generates gen/evenflow/**/*_pb2*.py and their type stubs from protos/; does nothing when they are current."""

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
GEN = ROOT / "gen"
STAMP = ".inputs.sha256"


def inputs_hash(protos: list[Path]) -> str:
    """Changes when a proto, this script or the compiler's version does."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    digest.update((ROOT / "requirements" / "run.txt").read_bytes())
    for proto in protos:
        digest.update(str(proto.relative_to(PROTOS)).encode() + b"\0" + proto.read_bytes())
    return digest.hexdigest()


def compile_into(folder: Path, protos: list[Path]) -> bool:
    """Run protoc with the messages, services and type stubs going to `folder`; False when it refused."""
    command = [
        *(sys.executable, "-m", "grpc_tools.protoc"),
        f"--proto_path={PROTOS}",
        # googleapis-common-protos ships google/rpc/*.proto here; the compiler brings google/protobuf/*.proto itself.
        f"--proto_path={sysconfig.get_path('purelib')}",
        f"--python_out={folder}",
        f"--grpc_python_out={folder}",
        f"--mypy_out=quiet:{folder}",
        f"--mypy_grpc_out=quiet:{folder}",
        *map(str, protos),
    ]
    # mypy-protobuf's plugins stand beside this interpreter, which need not be on PATH.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return subprocess.run(command, env={**os.environ, "PATH": path}, check=False).returncode == 0


def main() -> int:
    """Generate; 0 when gen/ is current afterwards."""
    protos = sorted(PROTOS.rglob("*.proto"))
    if not protos:
        print(f"protos: no .proto file under {PROTOS}", file=sys.stderr)
        return 1
    wanted = inputs_hash(protos)
    stamp = GEN / STAMP
    if stamp.exists() and stamp.read_text() == wanted:
        return 0
    fresh, stale = ROOT / "gen.new", ROOT / "gen.old"
    for leftover in (fresh, stale):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir()
    if not compile_into(fresh, protos):
        shutil.rmtree(fresh)
        print("protos: protoc failed, gen/ is as it was; the messages above say where", file=sys.stderr)
        return 1
    for folder in (path for path in fresh.rglob("*") if path.is_dir()):
        (folder / "__init__.py").touch()
    (fresh / "evenflow" / "py.typed").touch()
    (fresh / STAMP).write_text(wanted)
    # Moved aside, not deleted first: a fleet that is starting meets one whole gen/ or the other.
    if GEN.exists():
        GEN.rename(stale)
    fresh.rename(GEN)
    shutil.rmtree(stale, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
