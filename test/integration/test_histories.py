"""Random histories of several clients: recovered to random commits, each table is what it was there. A failing seed says how it is replayed, and is shrunk."""
import os
import random

import pytest

import history
from historyrun import Ground, Player, explain, settings
from salvorbox import parse_lsn

SOAK = os.environ.get("SALVOR_SOAK") == "1"
ROUNDS = int(os.environ.get("SALVOR_HISTORY_ROUNDS", 75 if SOAK else 1))
BATCHES = {"plain": 30, "changing": 10}  # histories of a round; those of the second one change the schema
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
        self.histories, self.checks, self.errors, self.operations = 0, {"exact": 0, "refused": 0}, 0, 0


def one_round(ground, dbname, count, rnd, tally):
    changes = dbname == "changing"
    players = [Player(ground.server, dbname, history.make(rnd.randrange(10**9), changes)) for _ in range(count)]
    try:
        ground.snapshot(dbname)
        ground.play(dbname, players, rnd, kill=rnd.random() < (0.2 if SOAK else 0.5))
        ends = sorted((p[0] for player in players for p in player.points[1:]), key=parse_lsn)
        ground.box.wait_durable(dbname, ends[-1], 120)
        for lsn in [*rnd.sample(ends[:len(ends) // 8], 1), *rnd.sample(ends[:-1], COMMITS - 2), ends[-1]]:
            judge(ground, dbname, players, lsn, None, tally, any(p.refusable_from and parse_lsn(lsn) >= p.refusable_from for p in players))
        if changes:  # whatever was refused, from the next snapshot on everything is exact
            ground.snapshot(dbname)
            judge(ground, dbname, players, "latest", ends[-1], tally, False)
            differ = ground.schemas_differ(dbname)
            assert not differ, f"seeds {[p.history.seed for p in players]}: the schema differs: {differ}"
    finally:
        for player in players:
            player.close()
    tally.histories += count
    tally.operations += sum(len(p.history.ops) for p in players)
    tally.errors += sum(len(p.errors) for p in players)
    with ground.server.connect(dbname).cursor() as cursor:
        for player in players:
            cursor.execute(f"SET client_min_messages = error; DROP SCHEMA {player.name} CASCADE")


def judge(ground, dbname, players, lsn, truth_at, tally, refusable):
    outcome, faults = ground.check(dbname, players, lsn, truth_at)
    tally.checks[outcome] += len(players)
    # Where a list was held by another transaction, a poll finds it, and may settle it: the range begins at the poll before, a little before the change.
    by_poll = dbname == "changing" and any(words in str(faults) for words in ("is held by another transaction", "captured only from now on"))
    if outcome == "refused" and not refusable and not by_poll:
        pytest.fail(f"{dbname}: a recovery to {lsn} was refused, seeds {[p.history.seed for p in players]}: {faults}", pytrace=False)
    if outcome == "exact" and faults:
        player, number, text = faults[0]
        seed = player.history.seed
        pytest.fail(f"history {seed}, after operation {number}: {text} ({len(faults)} faults at this position; {explain(seed, dbname == 'changing')})", pytrace=False)


@pytest.mark.timeout(900 if not SOAK else 0)
def test_random_histories(ground, record_property):
    seed = int(os.environ.get("SALVOR_SEED", random.randrange(10**6)))
    print("SALVOR_SEED =", seed)
    tally = Tally()
    for number in range(ROUNDS):
        rnd = random.Random(f"{seed} {number}")
        for dbname, count in BATCHES.items():
            one_round(ground, dbname, count, rnd, tally)
    told = (f"{tally.histories} histories, {tally.operations} operations ({tally.errors} of them errors): recovered to commits {tally.checks['exact']} times exact, "
            f"{tally.checks['refused']} times refused because of a schema change, never wrong; SALVOR_SEED={seed}")
    record_property("tells", told)
    print(told)
    assert tally.errors < tally.operations / 20, "the histories quarrel with each other"
