// Package vector keeps the vectors of runbook sections and past incidents: in memory, or in
// Postgres with pgvector, or in both with the memory serving while Postgres is away. All three
// are runbooks.Store and pass one conformance test (package vectortest).
//
// It stores the section's text and vector under a space named after the embedding, never those of
// two embeddings in one space. It promises: exact search in memory and below 10,000 sections in
// Postgres; no result shorter than asked because of a filter; every statement with a time limit.
// It refuses: vectors of another length, NaN and infinity, and an unencrypted connection to
// another machine unless that is allowed explicitly.
package vector
