"""The corpus: cases of test/corpus/*.sql, read, run and compared. The form of the files: test/corpus/README.md."""
import dataclasses
import io
import itertools
import pathlib
import re

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "corpus"
CHANGED = ("schema", "whole", "named")  # databases whose schema the cases change
SECTIONS = ("common", "setup", "before", "after")


@dataclasses.dataclass(eq=False)
class Case:
    group: "Group"
    name: str
    schema: str
    setup: list = dataclasses.field(default_factory=list)
    before: list = dataclasses.field(default_factory=list)
    after: list = dataclasses.field(default_factory=list)
    refused: str = None  # positions behind its change are refused until the next snapshot: what the refusal says
    polled: str = None  # no event trigger tells of the change, a poll does: why
    unseen: str = None  # the change lies outside of the database: why nobody notices it
    says: str = None  # of `checked`: severity and words of what `check` says
    differs: dict = dataclasses.field(default_factory=dict)  # table: why a recovery does not give what was there, as documented
    not_kept: dict = dataclasses.field(default_factory=dict)  # table: why its rows do not come back


@dataclasses.dataclass(eq=False)
class Group:
    title: str
    file: str
    database: str = "utf8"
    common: list = dataclasses.field(default_factory=list)
    cases: list = dataclasses.field(default_factory=list)



def statements(lines):
    """Cuts lines into statements: each ends at a line's end with a semicolon, outside of $$ ... $$. COPY ... FROM STDIN takes its rows, up to \\., along."""
    found, current, quoted, copying = [], [], False, False
    for line in lines:
        if not current and (not line.strip() or line.startswith("--")):
            continue
        current.append(line)
        if copying:
            if line != "\\.":
                continue
            copying = False
        else:
            quoted ^= len(re.findall(r"\$\w*\$", line)) % 2 == 1
            if quoted or not line.rstrip().endswith(";"):
                continue
            if re.match(r"(?i)COPY .* FROM STDIN", current[0]):
                copying = True
                continue
        found.append("\n".join(current))
        current = []
    if current:
        raise ValueError("a statement without an end: " + "\n".join(current))
    return found


def units(statements):
    """Statements that belong together: a transaction, with the end of one that it prepared; each other one alone."""
    found, open_ = [], False
    for statement in statements:
        joins = open_ or (found and statement.startswith(("COMMIT PREPARED", "ROLLBACK PREPARED")))
        if joins:
            found[-1].append(statement)
        else:
            found.append([statement])
        if statement.startswith("BEGIN"):
            open_ = True
        elif statement.startswith(("COMMIT", "PREPARE TRANSACTION")) or statement == "ROLLBACK;":
            open_ = False
    return found


def slug(text):
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


class Reader:
    """One file."""

    def __init__(self, path):
        self.path, self.group, self.case, self.section, self.types, self.shapes = path, None, None, None, [], []
        self.lines = {}

    def read(self):
        for number, line in enumerate(self.path.read_text(encoding="utf-8").split("\n"), 1):
            if line.startswith("--@ "):
                try:
                    self.directive(*re.fullmatch(r"--@ ([a-z ]+?)(?:: (.*))?", line).groups())
                except (AttributeError, KeyError, ValueError) as e:
                    raise ValueError(f"{self.path}:{number}: {line}: {e}") from None
            elif self.section == "types":
                if line.startswith("-- "):
                    self.types.append([part.strip().replace("\\|", "|") for part in line[3:].split(" | ")])
            elif self.section:
                self.lines.setdefault(self.section, []).append(line)
        self.end_case()
        self.expand()
        return self.group

    def directive(self, word, text):
        if word == "group":
            self.group = Group(text, self.path.name)
        elif word == "database":
            self.group.database = text
        elif word in ("case", "shape"):
            self.end_case()
            self.case = Case(self.group, text, None)
            (self.shapes if word == "shape" else self.group.cases).append(self.case)
            self.section = "setup"
        elif word in ("types", "common", "before", "after"):
            if word == "common":
                self.end_case()
            self.section = word
        elif word == "refused":
            self.case.refused = text
        elif word == "unseen":
            self.case.unseen = text
        elif word == "says":
            self.case.says = text
        elif word == "polled":
            self.case.polled = text
        elif word in ("not kept", "differs"):
            table, why = text.split(": ", 1)
            (self.case.not_kept if word == "not kept" else self.case.differs)[table] = why
        else:
            raise ValueError("unknown word")

    def end_case(self):
        for section, lines in self.lines.items():
            target = self.group if section == "common" else self.case
            getattr(target, section).extend(statements(lines))
        self.lines = {}

    def expand(self):
        """Each shape with each type that may stand in it."""
        for shape, (name, sql, may, *values) in itertools.product(self.shapes, self.types):
            kind, _, title = shape.name.partition(": ")
            if kind not in may.split():
                continue
            words = {"$type": sql, **{f"${i}": v for i, v in enumerate(values, 1)}}
            put = lambda text: re.sub(r"\$(type|\d)", lambda m: words[m.group()], text)
            self.group.cases.append(Case(self.group, f"{name}: {title}", None, *([put(s) for s in section] for section in (shape.setup, shape.before, shape.after))))


def groups():
    found = [Reader(path).read() for path in sorted(FOLDER.glob("*.sql"))]
    taken = set()
    for case in (c for g in found for c in g.cases):
        case.schema = slug(f"{case.group.file[:-4]} {case.name}")[:60]
        if case.schema in taken or not case.setup and case.group.database not in CHANGED:
            raise ValueError(f"{case.group.file}: the case {case.name!r} stands there twice, or is empty")
        taken.add(case.schema)
    return found


def execute(cursor, statement):
    """One statement of a case, as a transaction of its own unless it says otherwise."""
    head, _, rows = statement.partition("\n")
    if re.match(r"(?i)COPY .* FROM STDIN", head):
        cursor.copy_expert(head, io.StringIO(rows.removesuffix("\\.")))
    else:
        cursor.execute(statement)
