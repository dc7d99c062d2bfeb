"""The code package of all attack programs, with the names and secrets of one run in it."""

import io
import stat
import sys
import zipfile
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"
# A client of the Runtime API that answers with the API's address, which is its own sandbox's secret.
_BOOTSTRAP = f"""#!{sys.executable} -I
import http.client, json, os
address = os.environ["AWS_LAMBDA_RUNTIME_API"]
connection = http.client.HTTPConnection(address)
while True:
    connection.request("GET", "/2018-06-01/runtime/invocation/next")
    answer = connection.getresponse()
    answer.read()
    number = answer.headers["Lambda-Runtime-Aws-Request-Id"]
    connection.request("POST", f"/2018-06-01/runtime/invocation/{{number}}/response", json.dumps(address))
    connection.getresponse().read()
"""
_VERSION = 'VERSION = "1"'


def sources(mark: str, secret: str = "none", version: str = "1") -> dict[str, str]:
    """Files of the package by name. `secret` stands in programs/secret.py."""
    files = {f"programs/{path.name}": path.read_text() for path in sorted(PROGRAMS.glob("*.py"))}
    files["programs/mark.py"] = f'MARK = "{mark}"\n'
    files["programs/secret.py"] = f'SECRET = "{secret}"\n'
    assert _VERSION in files["programs/a17_poison.py"]
    files["programs/a17_poison.py"] = files["programs/a17_poison.py"].replace(_VERSION, f'VERSION = "{version}"')
    return files


def package(files: dict[str, str]) -> bytes:
    """The zip; the same files give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text, compress_type=zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def bootstrap() -> bytes:
    """A package for provided.al2023."""
    info = zipfile.ZipInfo("bootstrap")
    info.create_system = 3
    info.external_attr = (stat.S_IFREG | 0o755) << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, _BOOTSTRAP)
    return buffer.getvalue()
