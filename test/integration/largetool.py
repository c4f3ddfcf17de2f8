"""Large objects of a database as they are seen by a reader: pages with their holes, owners, grants as sets, comments."""
import hashlib

QUERY = """
SELECT m.oid::int8, pg_get_userbyid(m.lomowner)::text, m.lomacl IS NULL,
  ARRAY(SELECT concat_ws(' ', pg_get_userbyid(grantor), CASE grantee WHEN 0 THEN 'public' ELSE pg_get_userbyid(grantee) END, privilege_type, is_grantable)
        FROM aclexplode(m.lomacl) ORDER BY 1),
  obj_description(m.oid, 'pg_largeobject'),
  (SELECT count(*) FROM pg_largeobject p WHERE p.loid = m.oid),
  (SELECT md5(coalesce(string_agg(pageno || ':' || length(data) || ':' || md5(data), ',' ORDER BY pageno), '')) FROM pg_largeobject p WHERE p.loid = m.oid)
FROM pg_largeobject_metadata m ORDER BY m.oid"""


def large_objects(connection):
    """{id: everything that can be seen of it}"""
    with connection.cursor() as c:
        c.execute(QUERY)
        return {row[0]: tuple(map(str, row[1:])) for row in c.fetchall()}


def digest(objects):
    return hashlib.sha256(repr(sorted(objects.items())).encode()).hexdigest()
