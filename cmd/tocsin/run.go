package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tocsin-io/tocsin/internal/app"
)

func (f *flags) busFlags(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.opts.NATS, "nats", "", "URL of an external NATS with JetStream (default: embedded)")
	fl.StringVar(&f.opts.Creds, "creds", "", "NATS credentials file")
	fl.StringVar(&f.opts.BusPort, "bus", "", "open the embedded NATS at HOST:PORT for agents elsewhere")
	fl.StringVar(&f.opts.BusToken, "bus-token", "", "token for --bus, or for --nats")
}

func (f *flags) hubFlags(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.opts.Listen, "listen", "", "also serve the API at HOST:PORT; needs --tokens")
	fl.StringVar(&f.opts.TokensFile, "tokens", "", `file of "NAME SECRET" and "alerts:CLUSTER[,CLUSTER] SECRET" lines`)
	fl.StringSliceVar(&f.opts.Runbooks, "runbooks", nil, "folders and Git repositories of Markdown runbooks beside the built-in ones")
	fl.StringVar(&f.opts.EmbeddingsURL, "embeddings-url", "", "OpenAI-compatible endpoint that embeds runbooks, key in TOCSIN_EMBEDDINGS_KEY (default: built in)")
	fl.StringVar(&f.opts.EmbeddingsModel, "embeddings-model", "", "its model")
	fl.StringVar(&f.opts.RolesFile, "roles", "", `file of "NAME role[,role]" lines: approver, admin (default: only the user who runs this)`)
	fl.StringVar(&f.opts.PolicyFile, "policy", "", "policy file (default: everything asks)")
}

func (f *flags) actFlags(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringSliceVar(&f.opts.AllowActions, "allow-actions", nil, "actions that agents may run after approval (default: none; proposals are dry)")
	fl.StringSliceVar(&f.opts.AllowNamespaces, "allow-namespaces", nil, `namespaces in which they may act ("*": all but kube-*; default: none)`)
	fl.BoolVar(&f.opts.AllowClusterScoped, "allow-cluster-scoped", false, "they may act on nodes and other objects without a namespace")
	fl.StringVar(&f.opts.ActKubeconfig, "act-kubeconfig", "", "kubeconfig with the credentials for writing, same context names (default: those for reading)")
	fl.StringVar(&f.opts.Trust, "trust", "", "file of approval keys that agents obey (default: the one of this data folder)")
	fl.DurationVar(&f.opts.VerifyWindow, "verify-window", 0, "how long an outcome is watched (default: each action's own)")
}

func up(f *flags) *cobra.Command {
	cmd := &cobra.Command{Use: "up", Short: "Watch every context of the kubeconfig, all in one process",
		Long: `Runs agents for every context (or those named) and the hub in one process, with an embedded NATS
JetStream in the data folder. Nothing is changed in any cluster unless --allow-actions and
--allow-namespaces say what may be, and even then only after approval.`,
		Example: `  tocsin up
  tocsin up --context eu-1,us-1 --runbooks ./runbooks
  tocsin up --allow-actions RolloutUndo,RolloutRestart --allow-namespaces shop`,
		Args: args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error { return app.Up(cmd.Context(), f.opts, app.Both) }}
	f.kubeFlags(cmd, true)
	f.busFlags(cmd)
	f.hubFlags(cmd)
	f.actFlags(cmd)
	return cmd
}

func agent(f *flags) *cobra.Command {
	cmd := &cobra.Command{Use: "agent", Short: "Run only the half beside a cluster: collectors, detectors, executor",
		Example: `  tocsin agent --context eu-1 --nats nats://hub:4222 --creds eu-1.creds`,
		Args:    args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error { return app.Up(cmd.Context(), f.opts, app.AgentOnly) }}
	f.kubeFlags(cmd, true)
	f.busFlags(cmd)
	f.actFlags(cmd)
	return cmd
}

func hub(f *flags) *cobra.Command {
	cmd := &cobra.Command{Use: "hub", Short: "Run only the half that sees all clusters: correlator, analyzer, approvals, API",
		Example: `  tocsin hub --bus 0.0.0.0:4222 --bus-token "$TOKEN"`,
		Args:    args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error { return app.Up(cmd.Context(), f.opts, app.HubOnly) }}
	f.busFlags(cmd)
	f.hubFlags(cmd)
	return cmd
}

func analyze(f *flags) *cobra.Command {
	var context string
	cmd := &cobra.Command{Use: "analyze [PATH…]", Short: "Name the causes in a snapshot, or in a live cluster, once",
		Long: `PATH is a folder or .tar.gz: a snapshot of tocsin record, the output of kubectl cluster-info dump,
a Troubleshoot bundle, a must-gather, or any tree of Kubernetes JSON and YAML. Nothing is started
and nothing is stored. Several PATHs give one JSON object a line with -o json.`,
		Example: `  tocsin analyze --context eu-1
  tocsin analyze ./snapshot bundle.tar.gz -o json`,
		RunE: func(cmd *cobra.Command, paths []string) error {
			switch {
			case context != "" && len(paths) > 0:
				return usageError{fmt.Errorf("give PATHs or --context, not both")}
			case len(paths) > 0:
				return app.AnalyzePaths(cmd.Context(), paths, f.json(), cmd.OutOrStdout())
			case context == "":
				return usageError{fmt.Errorf("give a PATH, or --context NAME for a live cluster")}
			}
			return app.AnalyzeLive(cmd.Context(), f.opts.Kubeconfig, []string{context}, f.json(), cmd.OutOrStdout())
		}}
	f.kubeFlags(cmd, false)
	cmd.Flags().StringVar(&context, "context", "", "context of a live cluster")
	return cmd
}

func record(f *flags) *cobra.Command {
	var context string
	cmd := &cobra.Command{Use: "record DIR", Short: "Write a live cluster's state as a snapshot folder",
		Example: `  tocsin record --context eu-1 ./eu-1-snapshot`, Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return app.Record(cmd.Context(), f.opts.Kubeconfig, context, a[0], cmd.OutOrStdout())
		}}
	f.kubeFlags(cmd, false)
	cmd.Flags().StringVar(&context, "context", "", "context to record (default: the only one)")
	return cmd
}

func replay(f *flags) *cobra.Command {
	return &cobra.Command{Use: "replay SIGNALS.jsonl", Short: "Correlate recorded signals on their own time, as fast as possible",
		Example: `  tocsin replay signals.jsonl -o json`, Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return app.Replay(cmd.Context(), a[0], f.json(), cmd.OutOrStdout())
		}}
}

func simulateCmd(f *flags) *cobra.Command {
	var s app.Simulation
	cmd := &cobra.Command{Use: "simulate DIR", Short: "Generate a fleet's signals with known truth, for testing",
		Example: `  tocsin simulate --clusters 100 --seed 7 ./sim && tocsin replay ./sim/signals.jsonl`, Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error { s.Dir = a[0]; return app.Simulate(s, cmd.OutOrStdout()) }}
	cmd.Flags().IntVar(&s.Clusters, "clusters", 10, "number of clusters")
	cmd.Flags().StringSliceVar(&s.Kinds, "kinds", nil, "kinds of incident (default: all)")
	cmd.Flags().Uint64Var(&s.Seed, "seed", 1, "the same seed gives the same files")
	return cmd
}

func doctor(f *flags) *cobra.Command {
	cmd := &cobra.Command{Use: "doctor", Short: "Say what is reachable, what is not, and what to do about it",
		Args: args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error {
			return app.Doctor(cmd.Context(), f.opts.Kubeconfig, f.opts.Contexts, f.client(), f.json(), cmd.OutOrStdout())
		}}
	f.kubeFlags(cmd, true)
	f.serverFlag(cmd)
	return cmd
}

func demo(f *flags) *cobra.Command {
	cmd := &cobra.Command{Use: "demo", Short: "Replay a recorded three-cluster outage through the real pipeline",
		Long: `Plays a recorded outage of three clusters at many times its speed through the embedded NATS, the
correlator, the analyzer and the runbook search, and prints what an on-call engineer would see. It
needs no cluster. Actions on a recording are dry: nothing can be changed.`,
		Args: args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error { return app.Demo(cmd.Context(), f.opts) }}
	return cmd
}

func version(f *flags) *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version", Args: args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error {
		if f.json() {
			return f.print(cmd, map[string]string{"version": app.Version})
		}
		fmt.Fprintln(cmd.OutOrStdout(), "tocsin", app.Version)
		return nil
	}}
}
