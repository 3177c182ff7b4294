// Package library is the starter library: one runbook per cause people can act on. It holds
// data only.
package library

import "embed"

// FS holds the pages, at its top level, named after their cause.
//
//go:embed *.md
var FS embed.FS
