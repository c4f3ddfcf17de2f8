"""The command line without a server: usage, configuration errors, exit statuses, help from the tables."""
import pathlib
import re
import subprocess

import pytest
from salvorbox import SALVOR, Salvor


@pytest.fixture
def box(boxes):
    return boxes({"shop": {}})


def test_usage_and_unknown_commands():
    for argv, status in (([], 2), (["nonsense"], 2), (["--nonsense"], 2), (["--help"], 0), (["version"], 0), (["--version"], 0)):
        done = subprocess.run([SALVOR, *argv], capture_output=True, text=True)
        assert done.returncode == status, (argv, done)


def test_help_names_every_command_and_option():
    listing = subprocess.run([SALVOR, "help"], capture_output=True, text=True).stdout
    for name in ("init", "check", "setup", "teardown", "run", "snapshot", "status", "prove", "recover", "verify", "log", "journal", "adopt", "config", "help",
                 "version"):
        assert re.search(rf"^  {name} ", listing, re.M), name
        page = subprocess.run([SALVOR, "help", name], capture_output=True, text=True)
        assert page.returncode == 0 and page.stdout.startswith(f"salvor {name}")
    options = subprocess.run([SALVOR, "help", "config"], capture_output=True, text=True).stdout
    for option in ("state", "conninfo", "rpo", "rto", "snapshot_schedule", "automation", "target", "cutover"):
        assert re.search(rf"^  {option} = ", options, re.M), option


def test_the_reference_page_is_the_option_table():
    page = pathlib.Path(__file__).resolve().parents[2] / "docs/operations/configuration.md"
    made = subprocess.run([SALVOR, "help", "config", "--markdown"], capture_output=True, text=True, check=True).stdout
    assert page.read_text() == made, "docs/operations/configuration.md: run salvor help config --markdown"


def test_config_shows_values_and_their_origin(box):
    out = box.ok("config", "--origin").out
    assert re.search(rf"vault = main   # {re.escape(str(box.config))}:\d+", out)
    assert "rpo = 15min   # default" in out


@pytest.mark.parametrize("text,says", [
    ("nonsense\n", ":1: expected"),
    ("[source x]\nvault = main\nfoo = 1\n", ":3: [source] has no option 'foo'"),
    ("[source x]\nvault = main\nconninfo = host=h password=hunter2\n", ":3: 'conninfo'"),
    ("[source x]\nvault = gone\n", ":2: [source x]: there is no [vault gone]"),
    ("[vault main]\npath = /v\n[source x]\nvault = main\nrpo = soon\n", ":5: 'rpo = soon'"),
    ("[vault main]\npath = /v\n[source x]\nvault = main, main\n", ":4: [source x] names the vault main twice"),
    ("[vault a]\npath = /v\n[vault b]\npath = /v\n", ":3: [vault b] lies where [vault a] does"),
])
def test_a_broken_configuration_is_named_with_its_line(box, text, says):
    box.config.write_text(text)
    r = box.fails(2, "status", says=says)
    assert "hunter2" not in r.err and str(box.config) in r.err


def test_a_missing_configuration(box):
    box.config.unlink()
    box.fails(2, "status", says="--config FILE")


def test_init_makes_and_keeps_a_vault(box):
    assert "made in" in box.ok("init").out
    assert "is there already" in box.ok("init").out


def test_a_vault_that_was_never_made(box):
    box.fails(1, "status", says="salvor init")


def test_a_source_without_conninfo(box):
    box.ok("init")
    box.ok("status")
    box.ok("verify")
    for command in (["check"], ["setup", "shop"], ["snapshot", "shop"]):
        box.fails(2, *command, says="has no conninfo")
    box.fails(2, "run", says="nothing to run")


def test_a_source_without_conninfo_keeps_nobody_from_checking_the_others(boxes):
    box = boxes({"cold": {}, "shop": {"conninfo": "host=127.0.0.1 port=1 dbname=x"}})
    found = {s["name"]: s["protectable"] for s in box.run_command("check", "--json").json["sources"]}
    assert found == {"cold": None, "shop": False}
    box.fails(3, "check", says="cold: not checked")


@pytest.mark.parametrize("args,says", [
    (["recover", "shop"], "--into CONNINFO"),
    (["recover", "shop", "--into", "host=a", "--local", "/x"], "exclude each other"),
    (["recover", "shop", "--local", "relative"], "absolute path"),
    (["recover", "shop", "--into", "host=a password=hunter2"], "PGPASSFILE"),
    (["recover", "shop", "--to", "yesterday", "--local", "/x"], "neither"),
    (["recover", "shop", "--to", "2026-01-31T12:00:00", "--local", "/x"], "offset"),
    (["recover", "shop", "--to", "2026-01-31 12:00:00Z", "--local", "/x"], "neither"),
    (["recover", "nobody", "--local", "/x"], "there is no [source nobody]"),
    (["recover", "shop", "--port", "99999", "--local", "/x"], "99999"),
    (["status", "shop", "extra"], "usage: salvor status"),
    (["setup"], "name the source"),
])
def test_wrong_usage(box, args, says):
    box.ok("init")
    assert "hunter2" not in box.fails(2, *args, says=says).err


def test_nothing_to_recover_yet(box, tmp_path):
    box.ok("init")
    box.fails(3, "recover", "shop", "--local", str(tmp_path / "t"), says="holds nothing of a source shop")
    assert not (tmp_path / "t").exists()


def test_only_one_salvor_run_a_state_directory(servers, boxes):
    server = servers()
    box = boxes({"shop": {"conninfo": server.conninfo("postgres", tcp=True)}})
    box.ok("init")
    box.start()
    box.wait("the lock", lambda: (box.state / "run.lock").exists())
    second = Salvor.run_command(box, "run")
    assert second.status == 1 and "at work here already" in second.err
