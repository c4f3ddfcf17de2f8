"""The corpus: every case is captured, recovered at several positions and compared, rows and schema, with the source as it was there."""
import collections
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from corpusrun import Corpus

ROOT = pathlib.Path(__file__).resolve().parents[2]


def report(databases):
    """What was wrong, case by case."""
    lines = []
    for database in databases:
        for case, faults in database.faults.items():
            name = f"{case.group.file}: {case.name}" if case else "as a whole"
            lines += [f"{database.name}: {name}: {fault}" for fault in faults[:3]]
    return lines


def outcome(database, case):
    """What docs/COVERAGE.md tells of a case."""
    kind = ("fault" if case in database.faults else "named by check" if case.says else "differs" if case.differs else "unseen" if case.unseen
            else "refused" if case.refused else "crossed" if case.group.database in ("schema", "whole") else "not kept" if case.not_kept else "exact")
    said = sorted({(severity, generic(text)) for severity, code, name, text in database.said.get(case, [])})
    why = case.unseen or case.polled or "; ".join([*case.not_kept.values(), *case.differs.values()])
    return {"group": case.group.title, "case": case.name, "outcome": kind, "why": why, "check": said, "says": case.says, "refused": case.refused}


def generic(text):
    """Without the names of this case, which is one of several that are named together."""
    return re.sub(r" \([^()]*\):", ":", re.sub(r"^\d+ ", "", text))


@pytest.mark.timeout(900)
def test_corpus(servers, boxes, record_property):
    run = Corpus(servers, boxes)
    run.check_alone()
    run.protect()
    run.all_ways()
    run.told_loudly()
    databases = [*run.databases, run.checked]
    lines = report(databases)
    counts = collections.Counter(outcome(d, c)["outcome"] for d in databases for c in d.cases)
    record_property("tells", f"{sum(counts.values())} cases: " + ", ".join(f"{n} {kind}" for kind, n in counts.most_common()))
    results = ROOT / "build" / "corpus.json"
    results.write_text(json.dumps([outcome(d, c) for d in databases for c in d.cases], indent=1, ensure_ascii=False))
    if lines:
        pytest.fail(f"{len(lines)} faults:\n" + "\n".join(lines[:60]), pytrace=False)
    table = subprocess.run([sys.executable, ROOT / "tools/coverage", results], capture_output=True, text=True, check=True).stdout
    readme = (ROOT / "README.md").read_text()
    for said in (re.search(r"Of \d+ schema changes \d+ are crossed", table).group(), re.search(r"(?:^\|.*\n)+", table, re.M).group()):
        if said not in readme:
            pytest.fail(f"README.md does not say: {said}", pytrace=False)
    if table != (ROOT / "docs/COVERAGE.md").read_text():
        pytest.fail(f"docs/COVERAGE.md is not what the corpus gives: tools/coverage {os.path.relpath(results, ROOT)} > docs/COVERAGE.md", pytrace=False)
