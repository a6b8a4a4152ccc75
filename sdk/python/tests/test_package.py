"""The packages, built and installed as a user does. Needs ``build`` and ``hatchling``."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from house import House, binary, plan

HERE = Path(__file__).parents[1]

THREE_LINES = """
import sys
from openai import OpenAI

from guardbook import Guard
guard = Guard(agent="billing-bot")
client = guard.wrap(OpenAI(base_url=sys.argv[1], api_key="sk-provider"))

ask = [{"role": "user", "content": sys.argv[3]}]
print(client.chat.completions.create(model=sys.argv[2], messages=ask).choices[0].message.content)
"""


def build(out: Path, *which: str, **environ: str) -> Path:
    environ = {**os.environ, "PWD": str(out), **environ}  # away from the checkout
    command = [sys.executable, "-m", "build", "--no-isolation", *which, "--outdir", str(out), str(HERE)]
    subprocess.run(command, check=True, capture_output=True, env=environ)
    [made] = out.iterdir()
    return made


def install(folder: Path, package: Path) -> Path:
    """A fresh environment with the package and, from this one's, the OpenAI client."""
    venv.create(folder, with_pip=True, symlinks=True)
    python = folder / "bin" / "python"
    command = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", package]
    if package.name.endswith(".tar.gz"):
        borrow(folder)
    subprocess.run(command, check=True, capture_output=True, cwd=folder, env={**os.environ, "PWD": str(folder)})
    borrow(folder)
    return python


def borrow(folder: Path) -> None:
    [site] = folder.glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text(str(Path(pytest.__file__).parents[1]) + "\n")


def environ(tmp_path: Path) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GUARDBOOK_") and k != "PYTHONPATH"}
    return {**clean, "GUARDBOOK_DATA": str(tmp_path / "data"), "PATH": "/usr/bin:/bin"}


@pytest.mark.skipif(sys.platform == "win32", reason="the environments of Windows look different")
def test_a_wheel_is_all_one_needs(house: House, tmp_path: Path) -> None:
    wheel = build(tmp_path / "wheel", "--wheel", GUARDBOOK_WHEEL_BINARY=binary())
    assert "-py3-none-" in wheel.name
    assert not wheel.name.endswith("-any.whl")
    names = {i.filename: i for i in zipfile.ZipFile(wheel).infolist()}
    assert names["guardbook/bin/guardbook"].external_attr >> 16 & 0o111
    assert "guardbook/py.typed" in names
    python = install(tmp_path / "venv", wheel)
    env = environ(tmp_path)
    script = python.parent / "guardbook"
    assert subprocess.run([script, "version"], capture_output=True, text=True, env=env).stdout.startswith("guardbook ")
    try:
        command = [python, "-c", THREE_LINES, house.provider + "/openai/v1", plan({"text": "It is dry."}), "Is it dry?"]
        done = subprocess.run(command, capture_output=True, text=True, env=env)
        assert done.stdout == "It is dry.\n", done.stderr
        assert "started a local server; dashboard: http://127.0.0.1:" in done.stderr
        events = subprocess.run([script, "book", "cat", "--json"], capture_output=True, text=True, env=env).stdout
        assert '"kind":"input"' in events
        assert '"kind":"output"' in events
    finally:
        subprocess.run([script, "local", "--stop"], env=env, capture_output=True)


@pytest.mark.skipif(sys.platform == "win32", reason="the environments of Windows look different")
def test_an_sdist_says_that_it_has_no_binary_and_takes_one_from_path(house: House, tmp_path: Path) -> None:
    sdist = build(tmp_path / "sdist", "--sdist")
    assert sdist.name.endswith(".tar.gz")
    assert sdist.stat().st_size < 1 << 20
    python = install(tmp_path / "venv", sdist)
    env = environ(tmp_path)
    script = python.parent / "guardbook"
    done = subprocess.run([script, "version"], capture_output=True, text=True, env=env)
    assert done.returncode == 1
    assert "carries no guardbook binary" in done.stderr
    folder = tmp_path / "path"
    folder.mkdir()
    (folder / "guardbook").symlink_to(binary())
    env["PATH"] = f"{script.parent}:{folder}:{env['PATH']}"
    done = subprocess.run([script, "version"], capture_output=True, text=True, env=env)
    assert done.stdout.startswith("guardbook ")
