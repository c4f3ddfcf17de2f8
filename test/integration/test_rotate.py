"""`salvor key rotate` raced against itself and killed in the middle: one wins a number, nobody's keys are lost, the vault opens by what it was told."""
import random
import signal
import time

import pytest

pytestmark = pytest.mark.timeout(600)

NOBODY = {"shop": {"conninfo": "host=127.0.0.1 port=1 dbname=shop user=nobody"}}


def make_box(boxes, *keys):
    box = boxes(NOBODY)
    for name in ("key", *keys):
        box.ok("key", "new", box.root / name)
    use(box, "key")
    box.ok("init")
    return box


def use(box, key):
    box.vaults["main"]["key_file"] = box.root / key
    box.write_config()


def numbers(box):
    return sorted(int(p.stem) for p in (box.root / "vault/keys").glob("*.json"))


def race(box, count, *args):
    """Statuses of so many rotations at once, and what all of them said."""
    before = (box.root / "spawned.log").stat().st_size if (box.root / "spawned.log").exists() else 0
    running = [box.spawn("key", "rotate", "main", *args) for _ in range(count)]
    statuses = [p.wait(240) for p in running]
    return statuses, (box.root / "spawned.log").read_text()[before:]


def test_rotations_at_once(boxes):
    """Who loses says so and has changed nothing; who wins made exactly one keys object. Also beside a key that is exported."""
    box = make_box(boxes)
    lost = 0
    for _ in range(12):
        before = numbers(box)
        statuses, said = race(box, 4)
        won = statuses.count(0)
        lost += len(statuses) - won
        assert won >= 1, said
        assert said.count("somebody else made keys/") == len(statuses) - won, said
        assert numbers(box) == before + list(range(before[-1] + 1, before[-1] + 1 + won)), said
        box.ok("key", "export", "main", "--out", box.root / f"kit{before[-1]}")
    print(f"{lost} of 48 lost")
    assert lost > 0, "nobody ever met anybody: this shows nothing"
    box.ok("verify")


def test_two_new_keys_at_once(boxes):
    """Two administrators, each with a key of his own: one of them replaces the key, and the vault opens by that one alone."""
    box = make_box(boxes, "a", "b")
    for number in range(8):
        names = [f"a{number}", f"b{number}"]
        for name in names:
            box.ok("key", "new", box.root / name)
        running = [box.spawn("key", "rotate", "main", "--new-key-file", box.root / name) for name in names]
        won = [name for name, p in zip(names, running) if p.wait(240) == 0]
        assert len(won) == 1, (box.root / "spawned.log").read_text()
        box.fails(3, "verify", says="were rotated")
        use(box, names[1 - names.index(won[0])])
        box.fails(3, "verify", says="is not the one of vault main")
        use(box, won[0])
        box.ok("verify")


def kill_when(p, reached):
    """SIGKILL as soon as reached() is true; the process may end before. Looked at all the time: what it waits for is over in a millisecond."""
    while p.poll() is None and not reached():
        pass
    p.kill()
    return p.wait(240) == -signal.SIGKILL


def test_killed_in_the_middle(boxes):
    """SIGKILL at any moment of a rotation to another key: the old key opens the vault, or the new one does; never both, never none."""
    box = make_box(boxes)
    current, moved, killed = "key", 0, 0
    rng = random.Random(4711)
    begun = time.monotonic()
    box.ok("key", "rotate", "main")
    duration = time.monotonic() - begun
    for number in range(24):
        following = f"key{number}"
        box.ok("key", "new", box.root / following)
        before = numbers(box)
        p = box.spawn("key", "rotate", "main", "--new-key-file", box.root / following)
        due = time.monotonic() + rng.uniform(0, 1.2 * duration) * (number > 0)
        moments = (lambda: time.monotonic() >= due, lambda: any((box.root / "vault/tmp").glob("*")), lambda: numbers(box) != before)
        killed += kill_when(p, moments[number % 3])
        old = box.run_command("verify")
        use(box, following)
        new = box.run_command("verify")
        assert sorted((old.status, new.status)) == [0, 3], (old, new)
        assert new.status == 0 or p.returncode != 0, "it said that it was done"
        if new.status == 0:
            current, moved = following, moved + 1
        use(box, current)
    assert killed > 0
    # What is left goes on: another rotation, and the kit of it opens the vault on a bare host.
    box.ok("key", "rotate", "main")
    box.ok("key", "export", "main", "--out", box.root / "kit")
    use(box, "kit")
    box.ok("verify")
    print(f"{killed} of 24 killed, {moved} rotations counted")
