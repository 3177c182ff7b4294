// Package runbooks finds the runbook that applies to an incident, or says that none does.
//
// It reads Markdown pages (folders, Git repositories), splits them into sections, indexes words,
// names and vectors, ranks pages for a Query built from an incident or an alert, checks each
// candidate's preconditions against the incident's facts, and claims an answer only above a
// calibrated confidence. It keeps feedback and the memory of resolved incidents.
//
// It promises: nothing in a page is ever executed; no path leaves the folder it was given;
// every size is bounded; a page that cannot be taken is a Problem with file and line, never a
// silent gap; the same pages and query give the same ranking. It needs no model and no network;
// an Embedder or a Store that fails makes a result say so (Result.Degraded), not fail.
//
// It refuses: choosing an action or a target. A page's actions are names of the catalogue,
// checked when it is read; what becomes of them is decided elsewhere.
package runbooks
