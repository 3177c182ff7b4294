package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tocsin-io/tocsin/internal/app"
)

func runbooksCmd(f *flags) *cobra.Command {
	var dirs []string
	cmd := &cobra.Command{Use: "runbooks", Short: "Search, show and check runbooks"}
	cmd.PersistentFlags().StringSliceVar(&dirs, "dir", nil, "folders of Markdown runbooks (default: the built-in library)")
	var queries string
	search := &cobra.Command{Use: "search [TEXT…]", Short: "Find the runbook for an alert or a symptom, or say that none applies",
		Example: "  tocsin runbooks search KubePodCrashLooping OOMKilled\n  tocsin runbooks search --dir ./runbooks --queries queries.jsonl",
		RunE: func(cmd *cobra.Command, words []string) error {
			if (queries == "") == (len(words) == 0) {
				return usageError{errors.New("give TEXT or --queries FILE")}
			}
			return app.RunbooksSearch(cmd.Context(), app.Search{Dirs: dirs, Text: strings.Join(words, " "), Queries: queries, JSON: f.json()}, cmd.OutOrStdout())
		}}
	search.Flags().StringVar(&queries, "queries", "", `file of {"id","text","labels"} lines; prints one JSON line each ("-": standard input)`)
	lint := &cobra.Command{Use: "lint", Short: "Name what is wrong with runbooks, with file and line", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return app.RunbooksLint(cmd.Context(), dirs, cmd.OutOrStdout())
		}}
	show := &cobra.Command{Use: "show PATH", Short: "Print one runbook", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return app.RunbooksShow(cmd.Context(), dirs, a[0], f.json(), cmd.OutOrStdout())
		}}
	var owner string
	fresh := &cobra.Command{Use: "new CAUSE", Short: "Print a runbook to start from", Example: "  tocsin runbooks new OOMKilled > oom.md", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			page, err := app.RunbooksNew(a[0], owner)
			if err == nil {
				fmt.Fprint(cmd.OutOrStdout(), page)
			}
			return err
		}}
	fresh.Flags().StringVar(&owner, "owner", "", "who keeps the page")
	cmd.AddCommand(search, lint, show, fresh)
	return cmd
}
