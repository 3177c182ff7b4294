-- One row for each embedding in use; its sections are in a table of their own, because an HNSW
-- index needs one vector length, and because dropping a space is then one statement.
CREATE TABLE tocsin_spaces (
  space      text PRIMARY KEY,
  sections   text NOT NULL UNIQUE,
  dimensions integer NOT NULL CHECK (dimensions BETWEEN 1 AND 2000),
  created    timestamptz NOT NULL DEFAULT now()
);
