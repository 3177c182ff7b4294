package main

import (
	"encoding/json"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/internal/app"
)

// flags are those that several commands share.
type flags struct {
	opts    app.Options
	server  string
	output  string
	verbose bool
}

func (f *flags) json() bool { return f.output == "json" }

func (f *flags) client() *app.Client { return app.Connect(f.server, f.opts.Data) }

func root() *cobra.Command {
	f := &flags{}
	cmd := &cobra.Command{
		Use:   "tocsin",
		Short: "One incident per cause over many Kubernetes clusters, with the fix",
		Long: `Tocsin watches Kubernetes clusters, turns what goes wrong in them into one incident per cause,
says what the cause is and how sure it is, finds the runbook that applies, and offers exact fixes
that run only after approval, by the cluster's own agent, verified and undone if they make it worse.`,
		Example: `  tocsin up                          # watch every context of the kubeconfig
  tocsin incidents list              # what is wrong now
  tocsin analyze --context eu-1      # one cluster, once, nothing started
  tocsin approve p-1f2e3d4c5b6a --digest 9c1b…`,
		SilenceUsage: true, SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if f.output != "" && f.output != "json" && f.output != "text" {
				return usageError{incident.Invalidf("-o %q: want text or json", f.output)}
			}
			level := slog.LevelWarn
			if f.verbose {
				level = slog.LevelDebug
			}
			f.opts.Log, f.opts.Out = app.Logger(os.Stderr, level), cmd.OutOrStdout()
			return nil
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	p := cmd.PersistentFlags()
	p.StringVar(&f.opts.Data, "data", "", "data folder (default "+app.DefaultData()+")")
	p.StringVarP(&f.output, "output", "o", "text", "text for people, json for machines")
	p.BoolVarP(&f.verbose, "verbose", "v", false, "say more on standard error")
	cmd.AddCommand(up(f), agent(f), hub(f), analyze(f), record(f), replay(f), signals(f), simulateCmd(f), incidents(f), actionsCmd(f), approve(f), deny(f), stop(f), audit(f), feedback(f),
		runbooksCmd(f), policyCmd(f), doctor(f), demo(f), version(f))
	return cmd
}

func (f *flags) kubeFlags(cmd *cobra.Command, several bool) {
	cmd.Flags().StringVar(&f.opts.Kubeconfig, "kubeconfig", "", "kubeconfig file (default $KUBECONFIG, ~/.kube/config, then the pod's service account)")
	if several {
		cmd.Flags().StringSliceVar(&f.opts.Contexts, "context", nil, "contexts to use (default: all)")
	}
}

func (f *flags) serverFlag(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVar(&f.server, "server", "", "base URL of a running tocsin, token in TOCSIN_TOKEN (default: the socket in the data folder)")
}

func (f *flags) print(cmd *cobra.Command, v any) error {
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// args wraps an argument check so that its failure is wrong use.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, a []string) error {
		if err := check(cmd, a); err != nil {
			return usageError{err}
		}
		return nil
	}
}
