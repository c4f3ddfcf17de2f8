"""A store in memory that speaks as much of S3 as the driver asks for, for faults that a real one cannot be made to have. It checks no signature."""
import http.server
import re
import threading
import time
import urllib.parse
import xml.sax.saxutils


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def fail(self, status, code):
        self.answer(status, f"<Error><Code>{code}</Code><Message>the stub says so</Message></Error>".encode())

    def parts(self):
        """(key, or None for the bucket; query)"""
        path, _, query = self.path.partition("?")
        self.server.seen.append(f"{self.command} {self.path}")
        key = urllib.parse.unquote(path).split("/", 2)[2:]
        return (key[0] if key and key[0] else None), urllib.parse.parse_qs(query, keep_blank_values=True)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_PUT(self):
        key, _ = self.parts()
        data = self.body()
        with self.server.lock:
            if self.server.fences and self.headers.get("If-None-Match") == "*" and key in self.server.objects:
                return self.fail(412, "PreconditionFailed")
            self.server.objects[key] = (data, time.time())
        return self.answer(200, ETag='"x"')

    def do_GET(self):
        key, query = self.parts()
        if key is None:
            return self.answer(200, b"<VersioningConfiguration/>") if "versioning" in query else self.list(query)
        if self.server.before_get:
            self.server.before_get(key)
        data = self.server.objects.get(key, (None,))[0]
        if data is None:
            return self.fail(404, "NoSuchKey")
        wanted = re.match(r"bytes=(\d+)-(\d+)$", self.headers.get("Range") or "")
        if not wanted:
            return self.answer(200, data)
        first, last = int(wanted[1]), min(int(wanted[2]), len(data) - 1)
        if first >= len(data):
            return self.answer(416, b"", Content_Range=f"bytes */{len(data)}")
        return self.answer(206, data[first:last + 1], Content_Range=f"bytes {first}-{last}/{len(data)}")

    def list(self, query):
        prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
        after = query.get("continuation-token", [""])[0]
        entries = {}
        with self.server.lock:
            for key, (data, put) in self.server.objects.items():
                if key.startswith(prefix):
                    rest = key[len(prefix):]
                    folder = delimiter and delimiter in rest
                    entries[prefix + rest.split(delimiter)[0] + delimiter if folder else key] = None if folder else (data, put)
        keys = sorted(k for k in entries if k > after)
        page = keys[:self.server.page]
        text = "".join(f"<CommonPrefixes><Prefix>{k}</Prefix></CommonPrefixes>" if entries[k] is None else
                       f"<Contents><Key>{xml.sax.saxutils.escape(k)}</Key><Size>{len(entries[k][0])}</Size><LastModified>"
                       f"{time.strftime('%Y-%m-%dT%H:%M:%S.000Z', time.gmtime(entries[k][1]))}</LastModified></Contents>" for k in page)
        more = len(keys) > len(page)
        token = f"<NextContinuationToken>{page[-1]}</NextContinuationToken>" if more else ""
        return self.answer(200, f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{token}{text}</ListBucketResult>".encode())

    def do_DELETE(self):
        key, _ = self.parts()
        with self.server.lock:
            self.server.objects.pop(key, None)
        return self.answer(204)

    def do_POST(self):
        self.parts()
        keys = re.findall(r"<Key>([^<]*)</Key>", self.body().decode())
        if self.server.refuses_many:
            return self.fail(self.server.refuses_many, "NotImplemented")
        text = ""
        with self.server.lock:
            for key in keys:
                codes = self.server.errors.get(key)
                if codes:
                    text += f"<Error><Key>{key}</Key><Code>{codes[0]}</Code><Message>the stub says so</Message></Error>"
                    del codes[0]
                else:
                    self.server.objects.pop(key, None)
        return self.answer(200, f"<DeleteResult>{text}</DeleteResult>".encode())


class S3Stub:
    """objects: {key: (content, when it was put)}; errors: {key: [code of each answer to come]} of a removal of many; fences: If-None-Match counts;
    before_get: called with the key before an object is read."""

    def __init__(self, fences=True, page=1000, refuses_many=None):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.__dict__.update(fences=fences, page=page, refuses_many=refuses_many, before_get=None, objects={}, errors={}, seen=[], lock=threading.Lock())
        self.port = self.server.server_address[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __getattr__(self, name):
        return self.server.__dict__[name]

    def fill(self, keys, content=b"x"):
        self.objects.update({key: (content, time.time()) for key in keys})

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.server.shutdown()
        self.server.server_close()
