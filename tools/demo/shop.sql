-- The demo's database: several tables of varied types, tens of thousands of rows.
CREATE TYPE order_state AS ENUM ('new', 'paid', 'sent');
CREATE DOMAIN email AS text CHECK (VALUE LIKE '%@%');
CREATE TABLE customers (
    id int PRIMARY KEY, name text NOT NULL, mail email, born date, visits int NOT NULL DEFAULT 0,
    last_seen timestamptz, tags text[], settings jsonb NOT NULL DEFAULT '{}');
CREATE TABLE products (
    id int PRIMARY KEY, title text NOT NULL, price numeric(10,2) NOT NULL,
    price_gross numeric GENERATED ALWAYS AS (price * 1.19) STORED, picture bytea, valid daterange);
CREATE TABLE stock (product_id int PRIMARY KEY REFERENCES products, quantity bigint NOT NULL, changed timestamptz);
CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, ref uuid NOT NULL UNIQUE, customer_id int NOT NULL REFERENCES customers,
    number bigint NOT NULL, state order_state NOT NULL DEFAULT 'new', note text, details jsonb, made timestamptz NOT NULL DEFAULT now());
CREATE INDEX ON orders (customer_id, made);
CREATE TABLE audit_log (id bigserial, at timestamptz NOT NULL DEFAULT clock_timestamp(), what text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE audit_log_old PARTITION OF audit_log FOR VALUES FROM (MINVALUE) TO ('2026-01-01');
CREATE TABLE audit_log_new PARTITION OF audit_log FOR VALUES FROM ('2026-01-01') TO (MAXVALUE);
CREATE VIEW open_orders AS SELECT id, ref, customer_id FROM orders WHERE state <> 'sent';
INSERT INTO customers SELECT i, 'Customer ' || i, 'c' || i || '@example.org', date '1950-01-01' + i % 20000, 0, NULL,
    ARRAY['tag' || i % 5, E'quote"\\' || i], jsonb_build_object('lang', (ARRAY['de','en','fr'])[1 + i % 3], 'n', i)
    FROM generate_series(1, 5000) i;
INSERT INTO products (id, title, price, picture, valid) SELECT i, 'Product ' || i, (i % 1000) + 0.99, decode(repeat(md5(i::text), 40), 'hex'),
    daterange('2020-01-01'::date + i % 300, NULL) FROM generate_series(1, 2000) i;
INSERT INTO stock SELECT i, 100000, now() FROM generate_series(1, 2000) i;
INSERT INTO orders (ref, customer_id, number, details) SELECT md5('o' || i)::uuid, 1 + i % 5000, 0, jsonb_build_object('lines', i % 9)
    FROM generate_series(1, 30000) i;
INSERT INTO audit_log (at, what) SELECT timestamptz '2025-06-01' + i * interval '1 hour', 'import ' || i FROM generate_series(1, 8000) i;
