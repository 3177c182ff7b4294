// Package remediations takes a proposal to a measured outcome.
//
// It has two halves. The Desk (hub) keeps one record per proposal in a compare-and-set bucket,
// has it prepared by the cluster's own agent, asks the policy, collects approvals and sends one
// signed command. The Agent (beside the cluster) prepares plans against live objects and, given
// a command, verifies it against its own local policy, runs the live gates again, writes with API
// preconditions, and measures what came of it. The hub half never talks to a cluster.
//
// What it promises:
//   - Only actions of Catalogue run, with typed parameters; there is no shell, no exec and no
//     generic patch, and nothing that was read from a workload chooses a target.
//   - An approval is bound to the Digest of one exact action: the writes, the object's UID,
//     resourceVersion and generation, the policy's version, the evidence, the expiry and a nonce.
//     The agent recomputes all of it from the live object before it writes.
//   - Every write is sent at most once per execution: the execution is claimed and marked started
//     in a compare-and-set ledger first; after a crash the agent looks and never writes again.
//   - No durable audit entry, no action.
//   - The zero value of every setting is the safe one: dry run, nothing enabled, approval needed.
//
// What it refuses: any envelope that is not byte for byte what an approval key signed for this
// cluster, a live patch of an object that Argo CD or Flux heals, a target that changed since it
// was shown.
//
// Desk and Agent are safe for concurrent use and hold no state of their own: any number of
// replicas may share one bucket. Both have a blocking Run(ctx) that does what time brings
// (expiry, escalation, waves; verification and recovery).
package remediations
