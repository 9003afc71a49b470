-- Where the masked columns are: in their tables, in partitions and inheritance children of those, in
-- ancestors (whose rows hold those of their children), in generated columns, and in views, through
-- any number of them. For PostgreSQL 13 to 18. Every name and operator is that of pg_catalog, whatever
-- the search_path says. 1259, 2604 and 2618 are pg_class, pg_attrdef and pg_rewrite in pg_depend.
WITH RECURSIVE
listed(rule, nsp, rel, att) AS (VALUES @LISTED@),
-- Where they were found before, by number; the first is none.
known(rule, rel, num) AS (VALUES @KNOWN@),
-- The tables and columns of the rules, as far as they exist: by name, and where they were before, as
-- whatever they are called.
found AS (
  SELECT l.rule, l.att, c.oid AS rel, a.attnum AS num, true AS named
  FROM listed l
  LEFT JOIN pg_catalog.pg_namespace n ON n.nspname OPERATOR(pg_catalog.=) l.nsp
  LEFT JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) n.oid
    AND c.relname OPERATOR(pg_catalog.=) l.rel
    AND pg_catalog.strpos('rpvmf', c.relkind::pg_catalog.text) OPERATOR(pg_catalog.>) 0
  LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) c.oid
    AND a.attname OPERATOR(pg_catalog.=) l.att
    AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped
  UNION ALL
  SELECT w.rule, a.attname, c.oid, a.attnum, false
  FROM known w
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) w.rel
    AND pg_catalog.strpos('rpvmf', c.relkind::pg_catalog.text) OPERATOR(pg_catalog.>) 0
  JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) c.oid
    AND a.attnum OPERATOR(pg_catalog.=) w.num
    AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped
),
-- Every relation that a value could get to; more than it does get to.
reach(rel) AS (
  SELECT f.rel FROM found f WHERE f.num IS NOT NULL
  UNION
  SELECT next.rel FROM reach r, LATERAL (
    SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent OPERATOR(pg_catalog.=) r.rel
    UNION ALL
    SELECT i.inhparent FROM pg_catalog.pg_inherits i WHERE i.inhrelid OPERATOR(pg_catalog.=) r.rel
    UNION ALL
    SELECT w.ev_class
    FROM pg_catalog.pg_depend d
    JOIN pg_catalog.pg_rewrite w ON w.oid OPERATOR(pg_catalog.=) d.objid
    WHERE d.refclassid OPERATOR(pg_catalog.=) 1259::pg_catalog.oid
      AND d.refobjid OPERATOR(pg_catalog.=) r.rel
      AND d.classid OPERATOR(pg_catalog.=) 2618::pg_catalog.oid
      AND w.ev_type OPERATOR(pg_catalog.=) '1'::pg_catalog."char"
  ) next(rel)
),
-- As an array: a planner that expects a million rows of a recursion compiles the query for longer
-- than it runs.
reached(rels) AS (SELECT pg_catalog.array_agg(r.rel) FROM reach r),
-- With whole rows in a view (attribute 0) pg_depend does not tell all columns that it reads.
view AS MATERIALIZED (
  SELECT w.oid AS rewrite, w.ev_class AS rel, w.ev_action::pg_catalog.text AS tree,
    pg_catalog.strpos(w.ev_action::pg_catalog.text, ':varattno 0 ') OPERATOR(pg_catalog.>) 0 AS rows
  FROM pg_catalog.pg_rewrite w
  WHERE w.ev_class OPERATOR(pg_catalog.=) ANY ((SELECT a.rels FROM reached a)::pg_catalog.oid[])
    AND w.ev_type OPERATOR(pg_catalog.=) '1'::pg_catalog."char"
),
reads AS (
  SELECT DISTINCT v.rel, d.refobjid AS source, d.refobjsubid AS num, v.rows
  FROM view v
  JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 2618::pg_catalog.oid
    AND d.objid OPERATOR(pg_catalog.=) v.rewrite
    AND d.refclassid OPERATOR(pg_catalog.=) 1259::pg_catalog.oid
),
-- The origin of each column of a view, from the target list of its query: of all entries in the
-- tree those in two braces, that of the query and that of the entry. What is escaped is no brace,
-- and a name with what belongs to it takes less than 300 characters.
entry AS (
  SELECT p.rel, pg_catalog.substring(p.piece, '^[0-9]+')::pg_catalog.int4 AS num,
    pg_catalog.substring(p.piece, ' :resorigtbl ([0-9]+) :resorigcol ')::pg_catalog.oid AS source,
    pg_catalog.substring(p.piece, ' :resorigtbl [0-9]+ :resorigcol (-?[0-9]+) ')::pg_catalog.int4
      AS source_num
  FROM (
    SELECT v.rel, pg_catalog."left"(p.piece, 300) AS piece, pg_catalog.sum(
        pg_catalog.length(pg_catalog.replace(p.piece, '}', ''))
        OPERATOR(pg_catalog.-) pg_catalog.length(pg_catalog.replace(p.piece, '{', ''))
      ) OVER (PARTITION BY v.rel ORDER BY p.place
              ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS depth
    FROM view v, LATERAL pg_catalog.regexp_split_to_table(
      pg_catalog.regexp_replace(v.tree, E'\\\\.', '', 'g'), ':resno '
    ) WITH ORDINALITY AS p(piece, place)
  ) p
  WHERE p.depth OPERATOR(pg_catalog.=) 2
),
-- A column without an entry, or with one that names no origin, is computed: source 0.
origin AS (
  SELECT DISTINCT v.rel, a.attnum::pg_catalog.int4 AS num,
    COALESCE(e.source, 0::pg_catalog.oid) AS source, COALESCE(e.source_num, 0) AS source_num
  FROM view v
  JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) v.rel
    AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped
  LEFT JOIN entry e ON e.rel OPERATOR(pg_catalog.=) v.rel AND e.num OPERATOR(pg_catalog.=) a.attnum
),
-- From column to column; source_num 0 is every column of the source.
step(source, source_num, rel, num, derived, down) AS MATERIALIZED (
  SELECT c.attrelid, c.attnum::pg_catalog.int4, k.attrelid, k.attnum::pg_catalog.int4, false, true
  FROM pg_catalog.pg_inherits i
  JOIN pg_catalog.pg_attribute c ON c.attrelid OPERATOR(pg_catalog.=) i.inhparent
    AND c.attnum OPERATOR(pg_catalog.>) 0 AND NOT c.attisdropped
  JOIN pg_catalog.pg_attribute k ON k.attrelid OPERATOR(pg_catalog.=) i.inhrelid
    AND k.attname OPERATOR(pg_catalog.=) c.attname
    AND k.attnum OPERATOR(pg_catalog.>) 0 AND NOT k.attisdropped
  WHERE i.inhparent OPERATOR(pg_catalog.=) ANY ((SELECT a.rels FROM reached a)::pg_catalog.oid[])
  UNION
  -- Generated columns, as PostgreSQL up to 14 notes what they read, and as later ones do.
  SELECT d.refobjid, d.refobjsubid, d.objid, d.objsubid, true, false
  FROM pg_catalog.pg_depend d
  WHERE d.refclassid OPERATOR(pg_catalog.=) 1259::pg_catalog.oid
    AND d.refobjid OPERATOR(pg_catalog.=) ANY ((SELECT a.rels FROM reached a)::pg_catalog.oid[])
    AND d.classid OPERATOR(pg_catalog.=) 1259::pg_catalog.oid
    AND d.objid OPERATOR(pg_catalog.=) d.refobjid
    AND d.refobjsubid OPERATOR(pg_catalog.>) 0 AND d.objsubid OPERATOR(pg_catalog.>) 0
  UNION
  SELECT d.refobjid, d.refobjsubid, x.adrelid, x.adnum::pg_catalog.int4, true, false
  FROM pg_catalog.pg_attrdef x
  JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 2604::pg_catalog.oid
    AND d.objid OPERATOR(pg_catalog.=) x.oid
    AND d.refclassid OPERATOR(pg_catalog.=) 1259::pg_catalog.oid
    AND d.refobjid OPERATOR(pg_catalog.=) x.adrelid
  WHERE x.adrelid OPERATOR(pg_catalog.=) ANY ((SELECT a.rels FROM reached a)::pg_catalog.oid[])
    AND d.refobjsubid OPERATOR(pg_catalog.>) 0 AND d.refobjsubid OPERATOR(pg_catalog.<>) x.adnum
  UNION
  SELECT o.source, o.source_num, o.rel, o.num, o.source_num OPERATOR(pg_catalog.=) 0, false
  FROM origin o
  WHERE o.source OPERATOR(pg_catalog.<>) 0::pg_catalog.oid
  UNION
  -- A computed column may be computed of whatever the view reads.
  SELECT s.source, CASE WHEN s.rows THEN 0 ELSE s.num END, o.rel, o.num, true, false
  FROM origin o
  JOIN reads s ON s.rel OPERATOR(pg_catalog.=) o.rel
  WHERE o.source OPERATOR(pg_catalog.=) 0::pg_catalog.oid
    AND s.source OPERATOR(pg_catalog.<>) o.rel
    AND (s.rows OR s.num OPERATOR(pg_catalog.>) 0)
),
above(rule, att, rel) AS (
  SELECT f.rule, f.att, f.rel FROM found f WHERE f.num IS NOT NULL
  UNION
  SELECT b.rule, b.att, i.inhparent
  FROM above b
  JOIN pg_catalog.pg_inherits i ON i.inhrelid OPERATOR(pg_catalog.=) b.rel
),
-- An ancestor does not lead down again, to the sisters of a table that a rule names.
carries(rule, rel, num, derived, down) AS (
  SELECT b.rule, b.rel, a.attnum::pg_catalog.int4, false, f.rel IS NOT NULL
  FROM above b
  JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) b.rel
    AND a.attname OPERATOR(pg_catalog.=) b.att
    AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped
  LEFT JOIN found f ON f.rule OPERATOR(pg_catalog.=) b.rule AND f.rel OPERATOR(pg_catalog.=) b.rel
  UNION
  SELECT c.rule, s.rel, s.num, c.derived OR s.derived, c.down
  FROM carries c
  JOIN step s ON s.source OPERATOR(pg_catalog.=) c.rel
    AND (s.source_num OPERATOR(pg_catalog.=) c.num OR s.source_num OPERATOR(pg_catalog.=) 0)
  WHERE c.down OR NOT s.down
)
SELECT 'rule'::pg_catalog.text AS kind, f.rule::pg_catalog.text AS rule,
  f.rel::pg_catalog.text AS rel, f.num::pg_catalog.text AS num, NULL::pg_catalog.text AS nsp, NULL::pg_catalog.text AS name,
  NULL::pg_catalog.text AS att
FROM found f
WHERE f.named
UNION ALL
SELECT 'kept', f.rule::pg_catalog.text, f.rel::pg_catalog.text, f.num::pg_catalog.text,
  n.nspname::pg_catalog.text, k.relname::pg_catalog.text, f.att::pg_catalog.text
FROM found f
JOIN pg_catalog.pg_class k ON k.oid OPERATOR(pg_catalog.=) f.rel
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) k.relnamespace
WHERE NOT f.named
UNION ALL
SELECT DISTINCT CASE WHEN c.derived THEN 'derived' ELSE 'column' END, c.rule::pg_catalog.text,
  c.rel::pg_catalog.text, c.num::pg_catalog.text, n.nspname::pg_catalog.text,
  k.relname::pg_catalog.text, a.attname::pg_catalog.text
FROM carries c
JOIN pg_catalog.pg_class k ON k.oid OPERATOR(pg_catalog.=) c.rel
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) k.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) c.rel
  AND a.attnum OPERATOR(pg_catalog.=) c.num
UNION ALL
-- A type of an extension whose values are text in either format.
SELECT 'text', NULL, y.oid::pg_catalog.text, NULL, NULL, NULL, NULL
FROM pg_catalog.pg_type y
WHERE y.typname OPERATOR(pg_catalog.=) 'citext'::pg_catalog.name
  AND y.typtype OPERATOR(pg_catalog.=) 'b'::pg_catalog."char"
  AND y.typcategory OPERATOR(pg_catalog.=) 'S'::pg_catalog."char"
UNION ALL
-- How many columns there are: of what a value could get to, and of other views, which somebody may
-- give a column of a masked table. 16384 is the first OID that is not of the system.
SELECT 'width', NULL, k.oid::pg_catalog.text, k.relnatts::pg_catalog.text, NULL, NULL, NULL
FROM pg_catalog.pg_class k
WHERE k.oid OPERATOR(pg_catalog.=) ANY ((SELECT a.rels FROM reached a)::pg_catalog.oid[])
UNION ALL
SELECT 'view', NULL, k.oid::pg_catalog.text, k.relnatts::pg_catalog.text, NULL, NULL, NULL
FROM pg_catalog.pg_class k
WHERE k.relkind OPERATOR(pg_catalog.=) 'v'::pg_catalog."char"
  AND k.oid OPERATOR(pg_catalog.>) 16383::pg_catalog.oid
UNION ALL
-- Where a rewrite rule may give out, for a write, what it likes.
SELECT DISTINCT 'ruled', NULL, k.oid::pg_catalog.text, NULL, n.nspname::pg_catalog.text,
  k.relname::pg_catalog.text, NULL
FROM pg_catalog.pg_rewrite w
JOIN pg_catalog.pg_class k ON k.oid OPERATOR(pg_catalog.=) w.ev_class
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) k.relnamespace
WHERE w.ev_type OPERATOR(pg_catalog.<>) '1'::pg_catalog."char"
  AND k.oid OPERATOR(pg_catalog.>) 16383::pg_catalog.oid
UNION ALL
SELECT 'newest', NULL, pg_catalog.max(k.oid)::pg_catalog.text, NULL, NULL, NULL, NULL
FROM pg_catalog.pg_class k
