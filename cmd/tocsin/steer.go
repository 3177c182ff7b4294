package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/internal/app"
	"github.com/tocsin-io/tocsin/internal/app/text"
)

func incidents(f *flags) *cobra.Command {
	cmd := &cobra.Command{Use: "incidents", Short: "List, show and watch incidents"}
	f.serverFlag(cmd)
	var all bool
	list := &cobra.Command{Use: "list", Short: "One line per open incident, newest first", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			got, err := f.client().Incidents(cmd.Context(), all)
			if err != nil {
				return err
			}
			if f.json() {
				return f.print(cmd, got)
			}
			w := text.To(cmd.OutOrStdout())
			w.List(got)
			for _, line := range app.Unseen(cmd.Context(), f.client()) {
				w.Printf("not seen: %s", line)
			}
			return nil
		}}
	list.Flags().BoolVar(&all, "all", false, "closed and merged ones too")
	show := &cobra.Command{Use: "show ID", Short: "Everything known of one incident", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			got, err := f.client().Incident(cmd.Context(), a[0])
			if err != nil {
				return err
			}
			if f.json() {
				return f.print(cmd, got)
			}
			return app.Show(cmd.Context(), f.client(), got, cmd.OutOrStdout())
		}}
	watch := &cobra.Command{Use: "watch", Short: "Print incidents as they open, grow, are explained and close", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, seen := text.To(cmd.OutOrStdout()), map[incident.ID]string{}
			return f.client().Watch(cmd.Context(), func(i incident.Incident) error {
				if f.json() {
					return f.print(cmd, i)
				}
				what, key := app.Happened(seen[i.ID], i)
				if seen[i.ID] = key; what != "" {
					w.Line(i, what)
				}
				return nil
			})
		}}
	cmd.AddCommand(list, show, watch)
	return cmd
}

func actionsCmd(f *flags) *cobra.Command {
	cmd := &cobra.Command{Use: "actions [ID]", Short: "Show proposed and running actions, or one with its exact change", Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			id := ""
			if len(a) > 0 {
				id = a[0]
			}
			return app.Actions(cmd.Context(), f.client(), id, f.json(), cmd.OutOrStdout())
		}}
	f.serverFlag(cmd)
	return cmd
}

func approve(f *flags) *cobra.Command {
	var digest, reason string
	cmd := &cobra.Command{Use: "approve ID", Short: "Approve one action exactly as shown",
		Long: `An approval names the digest that "tocsin actions ID" shows. When the object, the policy or the
evidence has changed since, the digest no longer fits and nothing runs.`,
		Example: `  tocsin approve p-1f2e3d4c5b6a --digest 9c1b… --reason "known bad tag"`, Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return app.Decide(cmd.Context(), f.client(), app.Decision{ID: a[0], Approve: true, Digest: incident.Digest(digest), Reason: reason, JSON: f.json()}, cmd.OutOrStdout())
		}}
	cmd.Flags().StringVar(&digest, "digest", "", "digest of the exact action, as shown by \"tocsin actions ID\"")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit log")
	_ = cmd.MarkFlagRequired("digest") // fails only for a flag that does not exist
	f.serverFlag(cmd)
	return cmd
}

func deny(f *flags) *cobra.Command {
	var reason string
	cmd := &cobra.Command{Use: "deny ID", Short: "Deny an action, with a reason", Example: `  tocsin deny p-1f2e3d4c5b6a --reason "we fail over instead"`, Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return app.Decide(cmd.Context(), f.client(), app.Decision{ID: a[0], Reason: reason, JSON: f.json()}, cmd.OutOrStdout())
		}}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit log and for whoever proposed it")
	f.serverFlag(cmd)
	return cmd
}

func stop(f *flags) *cobra.Command {
	var off bool
	var reason string
	cmd := &cobra.Command{Use: "stop [fleet|cluster/NAME|namespace/CLUSTER/NAME]", Short: "The stop switch: nothing acts there until it is turned off",
		Example: "  tocsin stop fleet --reason \"change freeze\"\n  tocsin stop cluster/eu-1 --off", Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			scope := "fleet"
			if len(a) > 0 {
				scope = a[0]
			}
			if err := f.client().Stop(cmd.Context(), scope, reason, !off); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "stop switch of %s: %s\n", incident.UntrustedText(scope).Plain(120), map[bool]string{true: "on: nothing acts there", false: "off"}[!off])
			return nil
		}}
	cmd.Flags().BoolVar(&off, "off", false, "turn it off")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit log")
	f.serverFlag(cmd)
	return cmd
}

func audit(f *flags) *cobra.Command {
	cmd := &cobra.Command{Use: "audit", Short: "Verify the audit log"}
	f.serverFlag(cmd)
	cmd.AddCommand(&cobra.Command{Use: "verify", Short: "Check that no entry was changed, removed or reordered", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			raw, err := f.client().Raw(cmd.Context(), "/api/v1/audit")
			if err != nil {
				return err
			}
			if f.json() {
				return f.print(cmd, raw)
			}
			return app.SayAudit(raw, cmd.OutOrStdout())
		}})
	return cmd
}

func signals(f *flags) *cobra.Command {
	cmd := &cobra.Command{Use: "signals", Short: "Write all stored signals, one JSON event a line, as tocsin replay reads them",
		Example: "  tocsin signals > signals.jsonl && tocsin replay signals.jsonl", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.client().Signals(cmd.Context(), cmd.OutOrStdout())
		}}
	f.serverFlag(cmd)
	return cmd
}

func feedback(f *flags) *cobra.Command {
	var right, wrong, undo bool
	cmd := &cobra.Command{Use: "feedback INCIDENT RUNBOOK", Short: "Say whether a runbook helped; its rank for this cause moves a little",
		Example: "  tocsin feedback inc-2e4lpp7mdint OOMKilled.md --right", Args: args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, a []string) error {
			value := 1
			switch {
			case right:
				value = 2
			case wrong:
				value = -1
			case undo:
				value = 0
			}
			return f.client().Feedback(cmd.Context(), a[0], a[1], value)
		}}
	cmd.Flags().BoolVar(&right, "right", false, "this one was right")
	cmd.Flags().BoolVar(&wrong, "wrong", false, "it did not apply")
	cmd.Flags().BoolVar(&undo, "undo", false, "take my word back")
	cmd.MarkFlagsMutuallyExclusive("right", "wrong", "undo")
	f.serverFlag(cmd)
	return cmd
}
