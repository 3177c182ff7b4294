// Package incident is the vocabulary of Tocsin: the values that move from stage to stage
// (Signal, Incident, Finding, Proposal, Verdict, Approval, Outcome), their typed names, their
// validation and their wire forms.
//
// It sends and stores nothing, starts no goroutine and imports the standard library only.
// Every type is a plain value: safe to copy, safe for concurrent reading, owned by whoever made
// it. Decoders refuse what they cannot take with an error that wraps ErrInvalid and names the
// field. Fields of published forms are only ever added, enum values only appended.
package incident
