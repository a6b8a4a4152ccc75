// Command guardbook guards AI agents and keeps the book of what they did. This
// package holds flags and wiring only.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() { os.Exit(process()) }

// process is the command line of this process: it ends by itself, or in good order
// on SIGINT and SIGTERM. It returns the exit code.
func process() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}

// exit carries an exit code out of a command that already said what there is to say.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// Exit codes: interface.md and soc2.md 4.3.
const (
	exitFinding    = exit(1) // a finding, a failed check, a refused action
	exitUsage      = exit(2) // wrong usage, or the command could not run
	exitIncomplete = exit(3) // intact but incomplete, unanchored or unpinned
)

// refused is an error that means "no", as opposed to "could not run": exit code 1.
type refused struct{ error }

func (r refused) Unwrap() error { return r.error }

func run(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int {
	root := newRoot(&cli{in: in, out: out, err: errw})
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	var code exit
	var no refused
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &no):
		fmt.Fprintln(errw, "guardbook: "+printable(err.Error()))
		return int(exitFinding)
	default:
		fmt.Fprintln(errw, "guardbook: "+printable(err.Error()))
		if wrong := cmd.ValidateArgs(cmd.Flags().Args()); wrong != nil { // it counts arguments, and does not say which
			fmt.Fprintln(errw, "usage: "+cmd.UseLine())
		}
		return int(exitUsage)
	}
}

func newRoot(c *cli) *cobra.Command {
	root := &cobra.Command{
		Use:           "guardbook",
		Short:         "Guard the agent, keep the book: runtime security for AI agents with evidence for an audit",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(c.in)
	root.SetOut(c.out)
	root.SetErr(c.err)
	flags := root.PersistentFlags()
	flags.BoolVar(&c.json, "json", false, "print JSON, one object a line for lists")
	flags.StringVar(&c.data, "data", "", "data directory (GUARDBOOK_DATA; default ./guardbook-data)")
	flags.StringVar(&c.url, "url", "", "address of the server (GUARDBOOK_URL; default http://127.0.0.1:8787)")
	for _, add := range commands {
		root.AddCommand(add(c))
	}
	return root
}

// commands lists the constructors of the top-level commands, in the order of the help.
var commands = []func(*cli) *cobra.Command{
	newServe,
	newLocal,
	newMCP,
	newDemo,
	newAgents,
	newClients,
	newKill,
	newLift,
	newEvents,
	newReplay,
	newAlerts,
	newPolicy,
	newScan,
	newBook,
	newEvidence,
	newReconcile,
	newDoctor,
	newLoginLink,
	newVersion,
}
