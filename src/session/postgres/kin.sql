-- Partitions and inheritance children with each of their ancestors. For PostgreSQL 13 to 18; every name
-- and operator is that of pg_catalog, whatever the search_path says.
WITH RECURSIVE above(child, parent) AS (
  SELECT i.inhrelid, i.inhparent FROM pg_catalog.pg_inherits i
  UNION
  SELECT a.child, i.inhparent
  FROM above a
  JOIN pg_catalog.pg_inherits i ON i.inhrelid OPERATOR(pg_catalog.=) a.parent
)
SELECT 'child'::pg_catalog.text, NULL::pg_catalog.text, NULL::pg_catalog.text, NULL::pg_catalog.text,
  n.nspname::pg_catalog.text, c.relname::pg_catalog.text,
  pg_catalog.concat(m.nspname, '.', p.relname)
FROM above a
JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) a.child
  AND pg_catalog.strpos('rpf', c.relkind::pg_catalog.text) OPERATOR(pg_catalog.>) 0
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
JOIN pg_catalog.pg_class p ON p.oid OPERATOR(pg_catalog.=) a.parent
JOIN pg_catalog.pg_namespace m ON m.oid OPERATOR(pg_catalog.=) p.relnamespace
