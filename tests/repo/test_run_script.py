"""Tests of the script `run`, on a copy of it: no test touches the network or this checkout's .venv."""

import os
import re
import shutil
import subprocess
import tomllib

import pytest

from tests.paths import ROOT

VERBS = ("demo", "isoflop", "python", "add", "test", "lint", "docs", "ffcv", "lock", "help")


@pytest.fixture
def checkout(tmp_path):
    """A folder with a space in its name that holds the files the script reads."""
    folder = tmp_path / "a checkout"
    folder.mkdir()
    for name in ("run", "pyproject.toml", "constraints.txt"):
        shutil.copy2(ROOT / name, folder / name)
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    return folder


@pytest.fixture
def offline(tmp_path):
    """A folder for the front of PATH whose apt-get fails, as without a network, and whose sudo fails."""
    folder = tmp_path / "offline"
    folder.mkdir()
    for name in ("apt-get", "sudo"):
        program(folder / name, "exit 100")
    return folder


def program(path, body):
    """Writes a small executable and returns its path."""
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def call(script, *arguments, path=None, cwd=None, **variables):
    """Runs the script with these environment variables and with `path` in front of PATH."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHON"} | variables
    if path:
        environment["PATH"] = f"{path}{os.pathsep}{environment['PATH']}"
    return subprocess.run(
        [str(script), *arguments],
        env=environment,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def assert_refused(answer, *wanted):
    """Asserts exit status 2, nothing on stdout, and one line on stderr that contains each word."""
    assert answer.returncode == 2, answer.stderr
    assert answer.stdout == ""
    (line,) = answer.stderr.splitlines()
    for word in wanted:
        assert word in line


def planted(checkout):
    """Creates a complete .venv: a Python that prints its arguments, and the stamp of an installation."""
    site = checkout / ".venv/lib/python3.11/site-packages/pip"
    site.mkdir(parents=True)
    (site / "__init__.py").touch()
    (checkout / ".venv/bin").mkdir()
    (checkout / ".venv/bin/activate").write_text(f"VIRTUAL_ENV={checkout}/.venv\n")
    answer = 'case "$*" in *version_info*) echo 3.11.9 ;; "-m pip"*) echo pip >&2; exit 1 ;; *) echo "$@" ;; esac'
    program(checkout / ".venv/bin/python", answer)
    stamp(checkout, "isoflop", "pyproject.toml", "constraints.txt")


def stamp(checkout, name, *files):
    """Writes the stamp that an installation which depends on these files leaves."""
    content = b"".join((checkout / file).read_bytes() for file in files)
    checksum = subprocess.run(["cksum"], input=content, capture_output=True, check=True).stdout.decode().strip()
    (checkout / f".venv/{name}.stamp").write_text(f"{checksum} 3.11.9 {checkout}\n")


@pytest.mark.parametrize("script", ["run", "scripts/ffcv.sh"])
@pytest.mark.parametrize("shell", ["sh", "dash", "bash", "busybox"])
def test_script_is_posix(shell, script):
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    command = [shell, "sh", "-n"] if shell == "busybox" else [shell, "-n"]
    subprocess.run([*command, ROOT / script], check=True)


def test_help_lists_every_verb(checkout):
    answer = call(checkout / "run", "help")
    assert answer.returncode == 0
    assert set(VERBS) == set(re.findall(r"^  ([a-z]+)  ", answer.stdout, re.MULTILINE))


def test_help_says_how_to_have_the_command_on_path(checkout):
    assert ". .venv/bin/activate" in call(checkout / "run", "help").stdout


def test_every_verb_of_help_exists():
    verbs = (ROOT / "run").read_text().split("\ncase $verb in\n")[1]
    assert all(re.search(rf"^    {verb}( \|.*)?\)", verbs, re.MULTILINE) for verb in VERBS)


def test_no_verb_is_help(checkout):
    assert call(checkout / "run").stdout == call(checkout / "run", "help").stdout


def test_unknown_verb_is_one_line(checkout):
    assert_refused(call(checkout / "run", "dmeo"), "dmeo", "./run help")
    assert not (checkout / ".venv").exists()


def test_python_that_is_not_there_is_one_line(checkout):
    assert_refused(call(checkout / "run", "demo", PYTHON="/no/such/python"), "/no/such/python", "3.11 to 3.13")


@pytest.mark.parametrize("version", ["3.9", "3.14"])
def test_python_outside_the_range_is_one_line(checkout, tmp_path, version):
    python = program(tmp_path / "python", f"echo {version}; exit 3")
    assert_refused(call(checkout / "run", "isoflop", PYTHON=str(python)), f"is {version}", "3.11 to 3.13")
    assert not (checkout / ".venv").exists()


def test_python_that_cannot_make_environments_is_one_line_with_the_package(checkout, offline):
    python = program(offline / "python", "echo 3.12; exit 4")
    answer = call(checkout / "run", "test", path=offline, PYTHON=str(python))
    answer.stderr = re.sub("^.*installing.*\n", "", answer.stderr)  # root tries first
    assert_refused(answer, "apt install python3.12-venv")


def test_first_python_that_will_do_is_taken(checkout, tmp_path):
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    program(shelf / "python3.11", "exit 127")
    program(shelf / "python3.12", "echo 3.12; exit 4")
    program(shelf / "python3.13", 'case "$*" in "-m venv"*) exit 1 ;; *) echo 3.13 ;; esac')
    assert_refused(call(checkout / "run", "python", path=shelf), "python3.13 cannot make", "/.venv")


def test_second_call_installs_nothing(checkout):
    planted(checkout)
    answer = call(checkout / "run", "python", "one", "two words")
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "one two words\n", "")


def test_installed_ffcv_is_left_alone(checkout):
    planted(checkout)
    stamp(checkout, "ffcv", "constraints.txt")
    answer = call(checkout / "run", "ffcv")
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")


def test_failed_ffcv_is_not_tried_again_before_the_tests(checkout, offline):
    planted(checkout)
    stamp(checkout, "isoflop-test", "pyproject.toml", "constraints.txt")
    stamp(checkout, "ffcv-failed", "constraints.txt")
    program(offline / "initdb", "exit 0")
    answer = call(checkout / "run", "test", "-k", "cost", path=offline)
    assert (answer.returncode, answer.stdout) == (0, "-m pytest -k cost\n")
    assert "./run ffcv" in answer.stderr


def test_changed_pins_are_installed(checkout):
    planted(checkout)
    with (checkout / "constraints.txt").open("a") as file:
        file.write("six==1.16.0\n")
    answer = call(checkout / "run", "python", "one")
    assert answer.returncode == 1
    assert "pip" in answer.stderr
    assert answer.stdout == ""


@pytest.mark.parametrize("target", ["absolute", "relative"])
def test_script_works_through_a_symlink_from_elsewhere(checkout, tmp_path, target):
    planted(checkout)
    link = tmp_path / "go"
    link.symlink_to(checkout / "run" if target == "absolute" else "a checkout/run")
    answer = call(link, "python", "here", cwd="/")
    assert (answer.stdout, answer.stderr) == ("here\n", "")


def test_every_pin_is_exact_and_names_no_build():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9A-Za-z.]+", pin) for pin in pins)


# what is installed


@pytest.fixture
def pips(checkout):
    """An environment in which nothing is installed yet, and whose pip notes its arguments; returns what was noted.

    A package index that it knows offers torch's CPU build if the file `offers-cpu` exists.
    """
    planted(checkout)
    (checkout / ".venv/isoflop.stamp").unlink()
    noted = checkout / "noted"
    program(
        checkout / ".venv/bin/python",
        f"""case "$*" in
        *version_info*) echo 3.11.9 ;;
        *--dry-run*) echo "$*" >>'{noted}'; [ -e '{checkout}/offers-cpu' ] ;;
        "-m pip"*) echo "$*" >>'{noted}' ;;
        *) echo "$@" ;;
        esac""",
    )
    return lambda: [line.partition("--no-compile ")[2] for line in noted.read_text().splitlines()]


TORCH = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))
ASKED = f"--dry-run --no-deps {TORCH}+cpu"


def test_cpu_build_of_torch_is_preferred_where_it_is_offered(checkout, pips):
    (checkout / "offers-cpu").touch()
    answer = call(checkout / "run", "python", "hi", TORCH="cpu")
    assert (answer.returncode, answer.stdout) == (0, "hi\n")
    assert pips() == [ASKED, f"{TORCH}+cpu -e .[report]"]
    assert "GB on disk, with torch for CPUs" in answer.stderr
    assert ". .venv/bin/activate" in answer.stderr
    assert call(checkout / "run", "python", "hi", TORCH="cpu").stderr == ""
    assert len(pips()) == 2


def test_without_an_offer_the_size_and_the_remedy_are_said_before_anything_is_downloaded(checkout, pips):
    answer = call(checkout / "run", "python", "hi", TORCH="cpu")
    assert answer.returncode == 0
    assert pips() == [ASKED, "-e .[report]"]
    before, after, *_ = answer.stderr.splitlines()
    assert "PIP_EXTRA_INDEX_URL" in before
    assert "about 6 GB" in after


def test_with_a_gpu_the_index_decides(checkout, pips):
    (checkout / "offers-cpu").touch()
    assert call(checkout / "run", "python", "hi", TORCH="cuda").returncode == 0
    assert pips() == ["-e .[report]"]


def test_torch_that_is_there_stays(checkout, pips):
    info = checkout / f".venv/lib/python3.11/site-packages/{TORCH.replace('==', '-')}.dist-info"
    info.mkdir()
    (info / "INSTALLER").touch()
    answer = call(checkout / "run", "python", "hi", TORCH="cpu")
    assert pips() == ["-e .[report]"]
    assert "torch is there already" in answer.stderr


def test_unknown_build_of_torch_is_one_line(checkout, pips):
    assert_refused(call(checkout / "run", "python", "hi", TORCH="rocm"), "'rocm'", "cpu or cuda")


def test_extras_are_installed_by_name_once(checkout):
    planted(checkout)
    program(
        checkout / ".venv/bin/python",
        f'case "$*" in *version_info*) echo 3.11.9 ;; *) echo "$*" >>\'{checkout}/noted\' ;; esac',
    )
    for _ in range(2):
        assert call(checkout / "run", "add", "postgres", "energy").returncode == 0
    lines = [line.rpartition(" ")[2] for line in (checkout / "noted").read_text().splitlines()]
    assert lines == [".[postgres]", ".[energy]"]


def test_unknown_extra_is_refused_with_the_list(checkout):
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]) - {
        "ffcv-needs"
    }
    assert_refused(call(checkout / "run", "add", "postgers"), "postgers", *extras)
    assert set(call(checkout / "run", "add").stdout.split()) == extras
