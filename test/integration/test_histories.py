"""Random histories of several clients: recovered to random commits, each table is what it was there. A failing seed says how it is replayed, and is shrunk."""
import collections
import os
import random

import pytest

import history
from historyrun import Ground, Player, explain, settings
from salvorbox import parse_lsn

SOAK = os.environ.get("SALVOR_SOAK") == "1"
ROUNDS = int(os.environ.get("SALVOR_HISTORY_ROUNDS", 75 if SOAK else 1))
BATCHES = {"plain": ("rows", 24), "crossed": ("crossed", 12), "changing": ("any", 4)}  # database: histories of a round, and of which kind
COMMITS = 5


@pytest.fixture
def ground(servers, boxes):
    conf = {"logical_decoding_work_mem": "64kB", "log_min_messages": "fatal", "max_connections": "300", "max_prepared_transactions": "200", "max_locks_per_transaction": "256"}
    server, target = servers(conf), servers(conf)
    server.sql("CREATE ROLE salvor LOGIN REPLICATION BYPASSRLS; GRANT pg_read_all_data TO salvor")
    made = Ground(server, target, boxes(settings(server, BATCHES)))
    for dbname in BATCHES:
        made.prepare(dbname)
    made.box.ok("init")
    for dbname in BATCHES:
        made.protect(dbname)
    made.box.start()
    for dbname in BATCHES:
        made.box.wait_snapshots(dbname, 1)
    return made


class Tally:
    def __init__(self):
        self.histories, self.operations, self.errors, self.schemas = 0, 0, 0, 0
        self.checks = collections.defaultdict(collections.Counter)  # kind: {exact, or why refused: times}

    def __str__(self):
        checks = "; ".join(f"{kind}: " + ", ".join(f"{n} {'exact' if what == 'exact' else f'refused ({what})'}" for what, n in c.most_common()) for kind, c in self.checks.items())
        return f"{self.histories} histories, {self.operations} operations ({self.errors} of them errors), recovered to commits, never wrong, {self.schemas} times the schema compared: {checks}"


def one_round(ground, dbname, kind, count, rnd, tally):
    players = [Player(ground.server, dbname, history.make(rnd.randrange(10**9), kind)) for _ in range(count)]
    try:
        ground.snapshot(dbname)
        played = ground.play(dbname, players, rnd, kill=rnd.random() < (0.2 if SOAK else 0.5))
        ends = sorted((p[0] for player in players for p in player.points[1:]), key=parse_lsn)
        ground.box.wait_durable(dbname, ends[-1], 120)
        for lsn in chosen(ends, played, rnd):
            judge(ground, dbname, kind, players, lsn, None, tally, played)
        if kind != "rows":  # whatever was refused, from the next snapshot on everything is exact
            ground.snapshot(dbname)
            judge(ground, dbname, kind, players, "latest", ends[-1], tally, None, played.schemas[played.rests[-1]])
            assert not ground.large_differ(dbname), f"seeds {[p.history.seed for p in players]}: the large objects differ"
    finally:
        for player in players:
            player.close()
    tally.histories += count
    tally.operations += sum(len(p.history.ops) for p in players)
    tally.errors += sum(len(p.errors) for p in players)
    with ground.server.connect(dbname).cursor() as cursor:
        for player in players:
            cursor.execute(f"SET client_min_messages = error; DROP SCHEMA {player.name} CASCADE")
        cursor.execute("SELECT lo_unlink(oid) FROM pg_largeobject_metadata; SELECT format('DROP PUBLICATION %I', pubname) FROM pg_publication WHERE pubname LIKE 'h%'")
        for drop, in cursor.fetchall():
            cursor.execute(drop)


def chosen(ends, played, rnd):
    """Commits, of which nobody knows whether the schema was captured there; where the schema changes, the places at which it is known."""
    return [*rnd.sample(ends[:len(ends) // 8], 1), *(played.schemas or rnd.sample(ends[:-1], COMMITS - 2)), *([] if played.schemas else ends[-1:])]


def judge(ground, dbname, kind, players, lsn, truth_at, tally, played, text=None):
    outcome, said = ground.check(dbname, players, lsn, truth_at, text or played.schemas.get(lsn))
    why = ground.refusal(players, lsn, said, played.rests) if outcome == "refused" and played else None
    if outcome == "refused" and not why and not SOAK:  # never wrong; the long runs are strict
        why = "the history does not say why"
    if outcome == "refused" and not why:
        pytest.fail(f"{dbname}: a recovery to {lsn} was refused, seeds {[p.history.seed for p in players]}: {said}", pytrace=False)
    if why:
        print(f"{dbname}, {lsn}: {why}: {said}", flush=True)
    if outcome == "exact" and said:
        player, number, what = said[0]
        seed = player.history.seed
        pytest.fail(f"history {seed}, after operation {number}: {what} ({len(said)} faults at this position; {explain(seed, kind)})", pytrace=False)
    tally.checks[kind][why or "exact"] += 1
    tally.schemas += outcome == "exact" and (text is not None or lsn in played.schemas)


@pytest.mark.timeout(900 if not SOAK else 0)
def test_random_histories(ground, record_property):
    seed = int(os.environ.get("SALVOR_SEED", random.randrange(10**6)))
    print("SALVOR_SEED =", seed)
    tally = Tally()
    for number in range(ROUNDS):
        rnd = random.Random(f"{seed} {number}")
        for dbname, (kind, count) in BATCHES.items():
            one_round(ground, dbname, kind, count, rnd, tally)
        print(number, tally, flush=True)
    told = f"{tally}; SALVOR_SEED={seed}"
    record_property("tells", told)
    print(told)
    assert tally.errors < tally.operations / 20, "the histories quarrel with each other"
