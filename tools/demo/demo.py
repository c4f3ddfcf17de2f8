#!/usr/bin/python3
"""The main job on a real database: protect it, lose it, have it running again. See README.

demo.py SALVOR-PROGRAM. Everything lies in one temporary folder; KEEP=1 leaves it and the recovered servers there. Exit status 0
only if all that was promised held. VAULT=s3 keeps the vault in a bucket of a Ceph cluster that is started for it, instead of a directory.
"""
import contextlib
import json
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "test" / "integration"))
from pgserver import PgServer, bin_directory, free_port  # noqa: E402

RATE = 150
RPO_S = 60
COMMITS_LEAST = 100  # of an act: else nothing was shown
KEEP = os.environ.get("KEEP") == "1"
BEGAN = time.monotonic()
failures = []


def say(text=""):
    print(f"[{time.monotonic() - BEGAN:5.1f} s] {text}" if text else "", flush=True)


def check(good, text):
    print(f"    {'ok  ' if good else 'FAIL'}  {text}", flush=True)
    if not good:
        failures.append(text)


def parse_lsn(text):
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)


class Ledger:
    """What the client knows: the truth against which a recovery is held."""

    def __init__(self, path):
        self.tried, self.acked, self.downs, self.ups = {}, {}, [], []
        for line in path.read_text().splitlines():
            word = line.split()
            if word[0] == "try":
                self.tried[int(word[1])] = int(word[2])
            elif word[0] == "ack" and len(word) == 4:
                self.acked[int(word[1])] = (int(word[2]), parse_lsn(word[3]))
            elif word[0] == "down":
                self.downs.append(int(word[1]))
            elif word[0] == "up":
                self.ups.append(int(word[1]))


class Demo:
    def __init__(self, salvor):
        self.salvor = salvor
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="salvor-demo-"))
        os.chmod(self.folder, 0o755)
        self.config = self.folder / "salvor.conf"
        self.ledger_path = self.folder / "ledger"
        self.clients = self.folder / "clients.conninfo"
        self.run_process = self.client = self.server = None
        self.recovered = []
        self.ceph = None
        self.vault_lines, self.vault_place = f"driver = posix\npath = {self.folder}/vault", f"{self.folder}/vault"
        self.log = open(self.folder / "salvor.log", "ab")

    # -- the pieces

    def start_ceph(self):
        """A vault in a bucket: mon, mgr, one OSD and an S3 gateway of Debian's."""
        from cephserver import ACCESS, SECRET, CephServer
        say("a Ceph cluster (mon, mgr, OSD) with an S3 gateway is started for the vault; that takes about 20 s")
        self.ceph = CephServer(outlives=KEEP)
        self.ceph.start()
        bucket = self.ceph.bucket("salvor-demo")
        keys = self.folder / "s3-keys"
        keys.write_text(f"[default]\naws_access_key_id = {ACCESS}\naws_secret_access_key = {SECRET}\n")
        keys.chmod(0o600)
        self.vault_lines = f"driver = s3\nendpoint = {self.ceph.endpoint}\nbucket = {bucket}\ncredentials_file = {keys}"
        self.vault_place = f"s3://{bucket} at {self.ceph.endpoint}"

    def command(self, *args, quiet=False):
        done = subprocess.run([self.salvor, "--config", str(self.config), *args], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=None if not quiet else self.log, text=True)
        if done.returncode != 0:
            print(done.stdout)
            raise SystemExit(f"demo: salvor {' '.join(args)} ended with status {done.returncode}; see {self.folder}/salvor.log")
        return done.stdout

    def status(self):
        return json.loads(self.command("status", "shop", "--json", quiet=True))["sources"][0]

    def write_config(self, conninfo, automation, target=None):
        cutover = self.folder / "point-clients"
        cutover.write_text(f"#!/bin/sh\n# Run by salvor with the new conninfo; clients read theirs from the file.\n"
                           f"echo \"$(echo \"$1\" | sed 's/user=[^ ]*/user=app/')\" > '{self.clients}.new'\n"
                           f"mv '{self.clients}.new' '{self.clients}'\n")
        cutover.chmod(0o755)
        self.config.write_text(f"""[salvor]
state = {self.folder}/state
[vault main]
{self.vault_lines}
[source shop]
engine = postgres
conninfo = {conninfo}
vault = main
rpo = {RPO_S}s
rto = 2min
automation = {automation}
{f'target = local {target}' if target else ''}
cutover = {cutover}
loss_after = 4s
probe = 500ms
heartbeat = 1s
prove = no                # act one and act two prove it
local_auth = trust        # a throw-away server on loopback
""")

    def start_run(self):
        self.run_process = subprocess.Popen([self.salvor, "--config", str(self.config), "run"], stdin=subprocess.DEVNULL,
                                            stdout=self.log, stderr=self.log)

    def stop_run(self):
        if self.run_process:
            self.run_process.send_signal(signal.SIGTERM)
            self.run_process.wait(30)
            self.run_process = None

    def tell_keeper(self):
        """What the keeper wrote into the log since the last time. True: it was something."""
        with open(self.folder / "salvor.log", "rb") as log:
            log.seek(self.log_told)
            whole = log.read().rpartition(b"\n")[0]
        self.log_told += len(whole) + 1 if whole else 0
        lines = whole.decode(errors="replace").split("\n")
        told = False
        for line in lines:
            _, keeper, text = line.partition(" keeper: shop: ")
            if keeper:
                say(f"    keeper: {text}")
            elif line.startswith("shop: "):  # how far the recovery is that it runs
                say(f"    recovery: {line[6:]}")
            told |= bool(keeper) or line.startswith("shop: ")
        return told

    def wait_for(self, what, test, timeout=60, keeper=False):
        """Polls; a line a second tells what is waited for, or what the keeper says."""
        deadline, told = time.monotonic() + timeout, time.monotonic()
        while True:
            found = test()
            if found:
                return found
            if time.monotonic() > deadline:
                raise SystemExit(f"demo: waited {timeout} s for {what}; see {self.folder}/salvor.log")
            if self.run_process and self.run_process.poll() is not None:
                raise SystemExit(f"demo: salvor run ended with status {self.run_process.returncode}; see {self.folder}/salvor.log")
            if keeper and self.tell_keeper():
                told = time.monotonic() + 4
            if time.monotonic() - told > 1:
                told = time.monotonic()
                say(f"... {what}")
            time.sleep(0.1)

    def load(self, seconds, text):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(min(1, max(0.0, end - time.monotonic())))
            say(f"... {text}: {len(Ledger(self.ledger_path).acked)} commits acknowledged")

    def streaming(self):
        s = self.status()
        return s if s["snapshots"] and s["state"] == "streaming" else None

    def stop_recovered(self):
        for directory in self.recovered:
            data = os.path.join(directory, "data")
            if os.path.exists(os.path.join(data, "postmaster.pid")):
                argv = [os.path.join(bin_directory(), "pg_ctl"), "stop", "-D", data, "-m", "immediate", "-s", "-w"]
                subprocess.run(["runuser", "-u", "postgres", "--", *argv] if os.geteuid() == 0 else argv, cwd="/", check=False)

    # -- the story

    def prepare(self):
        say("starting a throw-away PostgreSQL and loading the database shop")
        self.server = PgServer(parent=str(self.folder), hba="local all postgres trust\nhost all all 127.0.0.1/32 trust\n"
                               "host replication all 127.0.0.1/32 trust\n")
        self.server.start({"fsync": "on"})
        self.server.sql("CREATE ROLE app LOGIN; CREATE ROLE salvor LOGIN REPLICATION BYPASSRLS; GRANT pg_read_all_data TO salvor")
        self.server.sql("CREATE DATABASE shop OWNER app")
        self.server.sql((ROOT / "tools" / "demo" / "shop.sql").read_text(), dbname="shop")
        self.server.sql("DO $$ DECLARE t record; BEGIN FOR t IN SELECT oid::regclass AS name FROM pg_class WHERE relkind IN ('r','p','v') AND "
                        "relnamespace = 'public'::regnamespace LOOP EXECUTE format('ALTER TABLE %s OWNER TO app', t.name); END LOOP; END $$",
                        dbname="shop")
        rows = self.server.value("SELECT sum(n)::bigint FROM (SELECT count(*) n FROM customers UNION ALL SELECT count(*) FROM products UNION ALL "
                                 "SELECT count(*) FROM stock UNION ALL SELECT count(*) FROM orders UNION ALL SELECT count(*) FROM audit_log) x",
                                 dbname="shop")
        say(f"loaded {rows} rows; protecting it as the role salvor, which is no superuser")
        self.write_config(self.server.conninfo("shop", "salvor", tcp=True), "observe")
        self.command("init", quiet=True)
        print(self.command("check", "shop"), end="")
        print(self.command("setup", "shop", "--admin", self.server.conninfo("shop", "postgres", tcp=True)), end="")
        self.start_run()
        self.start_client(self.server.conninfo("shop", "app", tcp=True))
        self.wait_for("the first snapshot", self.streaming)

    def start_client(self, conninfo):
        self.clients.write_text(conninfo + "\n")
        self.client = subprocess.Popen(["/usr/bin/python3", str(ROOT / "tools" / "demo" / "client.py"), str(self.clients),
                                        str(self.ledger_path), str(RATE)], stdin=subprocess.DEVNULL)

    def protected_load(self):
        say(f"a client writes about {RATE} transactions a second and keeps a ledger of every acknowledged commit")
        self.load(3, "writing")
        say("a snapshot under load")
        print(self.command("snapshot", "shop"), end="")
        self.load(3, "writing on after the snapshot")

    def kill_source(self, pids, directory):
        """SIGKILL and the data directory gone, while the load goes on."""
        status = self.status()
        asked = time.time()
        print(self.command("status", "shop"), end="")
        complaint = status["error"] or status["warning"]
        check(not complaint, f"status complains of nothing{': ' + complaint if complaint else ''}")
        self.log_told = (self.folder / "salvor.log").stat().st_size
        say("SIGKILL to the server, and its data directory is deleted; the load is not paused")
        killed = time.time()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(directory, ignore_errors=True)
        time.sleep(0.2)
        shutil.rmtree(directory, ignore_errors=True)
        return status, killed, asked

    def judge(self, title, result, status, killed, asked, ledger, connect):
        """Holds what was recovered against the ledger."""
        reached = parse_lsn(result["reached_position"])
        with contextlib.closing(connect()) as c, c.cursor() as cur:
            cur.execute("SELECT number FROM orders WHERE number > 0 AND made < to_timestamp(%s)", (killed + 0.001,))
            rows = [row[0] for row in cur.fetchall()]
        found = set(rows)
        before = {n: a for n, a in ledger.acked.items() if a[0] / 1e6 <= killed + 1 and n not in self.earlier_lost}
        # Positions of another server say nothing here; what an earlier act recovered has to be there whatever they are.
        forgotten = self.kept - found
        lost = sorted(n for n in before if n not in found and n not in forgotten)
        durable = parse_lsn(status["durable_position"])
        reached_s = time_of(result["reached_commit_time"])
        rpo = max((before[n][0] / 1e6 - reached_s for n in lost), default=0.0)
        print(f"\n  {title}")
        check(len(before) - len(self.kept) >= COMMITS_LEAST, f"{len(before) - len(self.kept)} commits of this act were acknowledged")
        check(result["verified"], f"verified: {result['tables']} tables, {result['rows']} rows, count and content")
        check(not [n for n in lost if before[n][1] <= durable], f"everything up to the durable position {status['durable_position']} is there")
        if self.kept:
            check(not forgotten, f"so are the {len(self.kept)} commits that the act before recovered")
        check(len(rows) == len(found) and found <= ledger.tried.keys(), "nothing is there that the client did not write, and nothing twice")
        check(not [n for n in lost if before[n][1] <= reached], f"lost commits lie beyond the reached position {result['reached_position']} only")
        check(rpo <= RPO_S, f"loss within the objective: {rpo:.3f} s of {RPO_S} s")
        allowed = status["exposure_s"] + (killed - asked) + 0.5
        check(rpo <= allowed, f"and no more than status said before: {status['exposure_s']:.3f} s, {killed - asked:.3f} s earlier")
        print(f"    commits      {len(before)} acknowledged, {len(before) - len(lost)} recovered, {len(lost)} lost")
        print(f"    measured RPO {rpo:.3f} s")
        print(f"    measured RTO {result['rto_s']:.2f} s: " + ", ".join(f"{p['name']} {p['seconds']:.2f}" for p in result["phases"]))
        print(f"    database     {result['conninfo']}")
        print(f"    vault, state {self.vault_place}, {self.folder}/state; log {self.folder}/salvor.log")
        self.earlier_lost |= set(lost)
        self.kept = set(found)

    earlier_lost, kept = set(), set()
    log_told = 0  # how far into Salvor's log it was told what the keeper says

    def act_one(self):
        say("ACT ONE: recovery by hand")
        self.protected_load()
        status, killed, asked = self.kill_source([self.server.pid, *self.server.children()], self.server.datadir)
        target = self.folder / "act-one"
        argv = [self.salvor, "--config", str(self.config), "recover", "shop", "--to", "latest", "--local", str(target), "--json"]
        say("salvor recover shop --to latest --local " + str(target))
        done = subprocess.run(argv, stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise SystemExit(f"demo: salvor recover ended with status {done.returncode}")
        result = json.loads(done.stdout)
        self.recovered.append(str(target))
        import psycopg2
        self.judge("ACT ONE: by hand", result, status, killed, asked, Ledger(self.ledger_path),
                   lambda: psycopg2.connect(result["conninfo"]))
        return result

    def act_two(self, result):
        say()
        say("ACT TWO: the same again, unattended; the source is now the database that act one recovered")
        self.stop_run()
        target = self.folder / "act-two"
        admin = result["admin_conninfo"]
        client = result["conninfo"].replace("user=postgres", "user=app")
        self.write_config(result["conninfo"].replace("user=postgres", "user=salvor"), "act", target)
        print(self.command("setup", "shop", "--admin", admin), end="")
        self.start_run()
        self.clients.write_text(client + "\n")
        self.wait_for("the first snapshot of the new incarnation", self.streaming)
        self.protected_load()
        data = self.folder / "act-one" / "data"
        pid = int((data / "postmaster.pid").read_text().splitlines()[0])
        status, killed, asked = self.kill_source(children_of(pid), data)
        ups = len(Ledger(self.ledger_path).ups)
        say("nobody does anything now: Salvor notices, confirms, recovers, runs the cut-over command")
        self.recovered.append(str(target))
        self.wait_for("the client to write again", lambda: len(Ledger(self.ledger_path).ups) > ups, 90, keeper=True)
        act_path = self.folder / "state" / "shop" / "act.json"
        act = self.wait_for("the end of the action", lambda: finished(act_path), 30)
        time.sleep(1)
        ledger = Ledger(self.ledger_path)
        import psycopg2
        self.judge("ACT TWO: unattended", act["recovery"], status, killed, asked, ledger,
                   lambda: psycopg2.connect(act["recovery"]["conninfo"]))
        back = ledger.ups[-1] / 1e6
        check(act["outcome"] == "cut over", f"outcome: {act['outcome']}")
        check(any(a[0] / 1e6 > back for a in ledger.acked.values()), "the client's writes go on by themselves")
        noticed = act["lost"]["confirmed_wall_us"] / 1e6 - killed
        print(f"    client       down for {back - killed:.1f} s in all: {noticed:.1f} s until the loss was confirmed, then recovery and cut-over")
        s = self.wait_for("the new database to be protected again", self.streaming)
        check(True, f"protected again: incarnation {s['incarnation']}, snapshot {s['snapshots'][-1]['id']}")

    def finish(self):
        if self.client:
            self.client.terminate()
            self.client.wait(10)
        self.stop_run()
        if KEEP:
            print(f"\n  kept: {self.folder} (state, log{'' if self.ceph else ', vault'}; recovered servers still run)")
            if self.ceph:
                print(f"  kept: the vault's Ceph cluster in {self.ceph.folder}; end it with: kill {' '.join(str(p.pid) for p in self.ceph.processes.values())}")
            return
        self.stop_recovered()
        if self.server:
            self.server.destroy()
        if self.ceph:
            self.ceph.destroy()
        if failures or sys.exc_info()[0]:
            print(f"\n  everything lies in {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


def children_of(pid):
    """The postmaster and its children, by /proc."""
    server = PgServer.__new__(PgServer)
    server.pid = pid
    return [pid, *server.children()]


def finished(path):
    try:
        act = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return act if act.get("outcome") else None


def time_of(text):
    import datetime
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def main():
    if os.geteuid() == 0:
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            raise SystemExit("demo: there is no system user postgres: is the package postgresql-15 installed?")
    demo = Demo(str(pathlib.Path(sys.argv[1]).resolve()))
    try:
        if os.environ.get("VAULT", "posix") == "s3":
            demo.start_ceph()
        demo.prepare()
        demo.act_two(demo.act_one())
    finally:
        demo.finish()
    if failures:
        print(f"\nNOT all that was promised held: {len(failures)} checks failed")
        return 1
    print(f"\nAll that was promised held. {time.monotonic() - BEGAN:.0f} s in all.")
    return 0


sys.exit(main())
