"""The command line without a server: usage, configuration errors, exit statuses, help from the tables."""
import pathlib
import re
import subprocess

import pytest
from salvorbox import SALVOR, Salvor


@pytest.fixture
def box(boxes):
    return boxes({"shop": {}})


def salvor(*argv):
    return subprocess.run([SALVOR, *argv], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("argv,status,says", [
    ([], 2, "usage: salvor"),
    (["nonsense"], 2, "no command 'nonsense'"),
    (["--nonsense"], 2, "what is '--nonsense'"),
    (["--config"], 2, "a value is missing after '--config'"),
    (["--config=/etc", "status"], 2, "cannot be read: cannot read /etc"),
    (["status", "--config", "x"], 2, "salvor --config FILE status"),
    (["version", "extra"], 2, "what is 'extra'"),
    (["version"], 0, "salvor "),
    (["--version"], 0, "salvor "),
])
def test_usage_and_unknown_commands(argv, status, says):
    done = salvor(*argv)
    assert done.returncode == status and says in done.stdout + done.stderr, (argv, done)


def test_help_is_had_however_it_is_asked_for():
    assert salvor("--help").stdout == salvor("-h").stdout == salvor("help").stdout
    page = salvor("help", "recover")
    assert page.returncode == 0 and page.stdout.startswith("salvor recover SOURCE ")
    for argv in (["recover", "--help"], ["recover", "shop", "-h"], ["--config", "/nonexistent", "recover", "--local", "/x", "--help"]):
        assert salvor(*argv).stdout == page.stdout, argv


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


def test_a_configuration_of_nothing_is_no_success(box):
    box.config.write_text("[salvor]\nstate = /nonexistent\n")
    for command in ("check", "status", "purge"):
        box.fails(2, command, says="names no [source NAME]")
    for command in ("init", "verify"):
        box.fails(2, command, says="names no [vault NAME]")
    box.fails(2, "run", says="nothing to run")


def test_a_group_whose_server_was_never_asked_is_shown(box):
    box.ok("init")
    box.config.write_text(box.config.read_text() + "[source fleet]\nvault = main\nconninfo = host=127.0.0.1 port=1\ndatabases = *\n")
    assert "source fleet: NOT PROTECTED" in box.ok("status").out
    assert box.ok("status", "--json").json["groups_unknown"] == ["fleet"]
    assert box.ok("status", "shop", "--json").json.get("groups_unknown") is None
    box.fails(3, "check", says="cannot be asked for its databases")


def test_check_tells_what_would_keep_it_from_acting(boxes):
    box = boxes({"shop": {"conninfo": "host=127.0.0.1 port=1 dbname=x", "automation": "act"}})
    (box.root / "full").mkdir()
    (box.root / "full" / "x").write_text("")
    program = box.root / "point-clients"
    text = box.config.read_text() + f"cutover = {program}\n"
    for target, says in (("new", "cannot be run: No such file"), ("new", None), ("full", "is not empty")):
        box.config.write_text(text + f"target = local {box.root / target}\n")
        found = [f for f in box.run_command("check", "--json").json["sources"][0]["findings"] if f["code"] == "automation"]
        assert bool(found) == bool(says) and all(f["severity"] == "warn" and says in f["text"] for f in found), found
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)


@pytest.mark.parametrize("value,warned", [("yes", True), ("no", False)])
def test_check_names_the_cost_of_ranges(boxes, value, warned):
    box = boxes({"shop": {"conninfo": "host=127.0.0.1 port=1 dbname=x", "split_tables": value}})
    found = [f for f in box.run_command("check", "--json").json["sources"][0]["findings"] if f["code"] == "split_tables"]
    assert [f["severity"] for f in found] == ["warn"] * warned and all("cache" in f["text"] for f in found), found


def test_where_nothing_is_ever_purged_purge_says_so(box):
    box.ok("init")
    assert "keep is not set: nothing of it is ever purged" in box.ok("purge").out
    box.fails(2, "purge", "shop", says="has no keep")


def test_nothing_is_held(box):
    box.ok("init")
    assert "nothing of shop is held" in box.ok("hold", "list", "shop").out


def test_a_state_directory_that_cannot_be_made(boxes):
    box = boxes({"shop": {"conninfo": "host=127.0.0.1 port=1 dbname=x"}})
    box.ok("init")
    text = box.config.read_text()
    (box.root / "file").write_text("")
    box.config.write_text(re.sub(r"state = .*", f"state = {box.root / 'file'}", text))
    done = box.fails(1, "run", says="the state directory (state in [salvor]): ")
    assert "at work here already" not in done.err


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
    (["recover", "shop", "--port", "99999", "--local", "/x"], "--port"),
    (["recover", "shop", "--to", "0/1", "--to", "0/2", "--local", "/x"], "given twice: '--to'"),
    (["recover", "shop", "--local", "/x", "--local=/y"], "given twice: '--local'"),
    (["recover", "shop", "--to", "", "--local", "/x"], "a value is missing after '--to'"),
    (["recover", "shop", "--local="], "a value is missing after '--local'"),
    (["setup", "shop", "--admin"], "a value is missing after '--admin'"),
    (["log", "shop", "--from", "yesterday"], "--from"),
    (["log", "shop", "--from", "0/5", "--to", "0/1"], "--to 0/1 lies before --from 0/5"),
    (["verify", "--threads", "0"], "--threads"),
    (["hold", "add", "shop", "--position", "here", "--reason", "x"], "--position"),
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
