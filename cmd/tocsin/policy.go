package main

import (
	"github.com/spf13/cobra"

	"github.com/tocsin-io/tocsin/incident"
	"github.com/tocsin-io/tocsin/internal/app"
)

func policyCmd(f *flags) *cobra.Command {
	var file string
	cmd := &cobra.Command{Use: "policy", Short: "Test and explain the policy that decides who is asked"}
	cmd.PersistentFlags().StringVar(&file, "policy", "", "policy file (default: the built-in policy)")
	test := &cobra.Command{Use: "test CASES.yaml", Short: "Run a file of cases against the policy", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return app.PolicyTest(cmd.Context(), file, a[0], f.json(), cmd.OutOrStdout())
		}}
	var in app.ExplainInput
	var cluster string
	explain := &cobra.Command{Use: "explain ACTION", Short: "Say what the policy answers for an action, and which rule decides",
		Example: "  tocsin policy explain RolloutUndo --kind Deployment --namespace shop", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			in.Action, in.Cluster, in.Clusters = incident.ActionName(a[0]), incident.ClusterName(cluster), 1
			return app.PolicyExplain(cmd.Context(), file, in, cmd.OutOrStdout())
		}}
	fl := explain.Flags()
	fl.StringVar(&in.Kind, "kind", "Deployment", "kind of the target")
	fl.StringVar(&in.Namespace, "namespace", "default", `namespace of the target ("": cluster-scoped)`)
	fl.StringVar(&in.Name, "name", "example", "name of the target")
	fl.StringVar(&cluster, "cluster", "example", "cluster of the target")
	fl.Float64Var(&in.Confidence, "confidence", 0.9, "confidence of the cause, 0..1")
	cmd.AddCommand(test, explain)
	return cmd
}
