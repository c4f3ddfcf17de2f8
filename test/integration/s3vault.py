"""Sources whose only vault is a bucket, and what stands in it, asked without Salvor."""
import contextlib
import re
import time

from conftest import begin

INSERT = "INSERT INTO shelf (what) SELECT repeat(md5(random()::text), 20) FROM generate_series(1, %d)"
SHELF = "CREATE TABLE shelf (id bigserial PRIMARY KEY, what text);" + INSERT % 2000


def keys_file(path, access, secret):
    path.write_text(f"[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n")
    path.chmod(0o600)
    return path


class Bucket:
    """A bucket of its own, with a user of its own, and the file that holds the user's keys."""

    def __init__(self, ceph, folder, prefix="a/b"):
        self.ceph, self.prefix = ceph, prefix
        self.access, self.secret = f"AK{time.monotonic_ns()}", f"SKsecret{time.monotonic_ns()}"
        self.uid = ceph.user(self.access, self.secret)
        self.name = ceph.bucket(access=self.access, secret=self.secret)
        self.keys = keys_file(folder / "keys", self.access, self.secret)

    def options(self):
        return {"driver": "s3", "endpoint": self.ceph.endpoint, "bucket": self.name, "prefix": self.prefix, "credentials_file": self.keys}

    def url(self, **more):
        return f"s3://{self.name}/{self.prefix}?" + "&".join(f"{k}={v}" for k, v in {"endpoint": self.ceph.endpoint, **more}.items())

    def request(self, method, path, query=""):
        return self.ceph.request(method, path, query, access=self.access, secret=self.secret)

    def objects(self, below=""):
        """The keys of all objects, without the prefix."""
        found, after = [], ""
        while True:
            begin_at = f"&start-after={after.replace('/', '%2F')}" if after else ""
            status, page, _ = self.request("GET", f"/{self.name}", f"list-type=2&prefix={(self.prefix + '/' + below).replace('/', '%2F')}{begin_at}")
            assert status == 200, page
            keys = [key.decode() for key in re.findall(rb"<Key>([^<]*)</Key>", page)]
            found += keys
            if b"<IsTruncated>true" not in page:
                return [key[len(self.prefix) + 1:] for key in found]
            after = keys[-1]

    def content(self, key):
        status, data, _ = self.request("GET", f"/{self.name}/{self.prefix}/{key}")
        assert status == 200, data
        return data


def protect_in(bucket, servers, boxes, schema=SHELF, key=False, **options):
    """A protected source `shop` whose only vault is this bucket."""
    server = servers()
    server.sql("CREATE DATABASE shop")
    server.sql("CREATE ROLE salvor LOGIN REPLICATION BYPASSRLS; GRANT pg_read_all_data TO salvor")
    server.sql(schema, dbname="shop")
    settings = {"conninfo": server.conninfo("shop", "salvor", tcp=True), "vault": "west", "rpo": "8s", "heartbeat": "500ms", "poll": "1s",
                "snapshot_schedule": "none", "snapshot_quiet": "1s", "snapshot_spacing": "0s", "probe": "300ms", **options}
    box = boxes({"shop": settings}, vaults={"west": bucket.options()})
    if key:
        box.ok("key", "new", box.root / "key")
        box.vaults["west"]["key_file"] = box.root / "key"
        box.write_config()
    begin(server, box)
    return server, box


def add_rows(server, count=50):
    """The position after them, and how many rows there are."""
    server.sql(INSERT % count, dbname="shop")
    return server.sql("SELECT pg_current_wal_insert_lsn()", dbname="shop")[0][0], server.sql("SELECT count(*) FROM shelf", dbname="shop")[0][0]


def assert_recovers(box, target, position, rows):
    result = box.recover("shop", "--to", position, "--local", str(target))
    with contextlib.closing(box.recovered(result)) as c, c.cursor() as cur:
        cur.execute("SELECT count(*), count(DISTINCT id) FROM shelf")
        assert cur.fetchone() == (rows, rows)
    box.stop_target(target)
