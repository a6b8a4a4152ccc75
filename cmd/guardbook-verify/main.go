// Command guardbook-verify checks a book that was exported as C2SP tlog-tiles: a
// directory that is a log, or that holds one for each epoch. It reads files and
// nothing else: no database, no network, no key but the one it is given. It is a
// program of its own so that an auditor doesn't have to check a book with the
// program that wrote it.
package main

import (
	"context"
	"encoding/json/v2"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/guardbook/guardbook/book/verify"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, out, errw io.Writer) int {
	flags := flag.NewFlagSet("guardbook-verify", flag.ContinueOnError)
	flags.SetOutput(errw)
	flags.Usage = func() {
		fmt.Fprintln(errw, "usage: guardbook-verify [--trust KEY] [--json] DIR")
		flags.PrintDefaults()
	}
	trust := flags.String("trust", "", "the key that must have signed the book: a verifier key, its fingerprint, or a file that holds one of them")
	asJSON := flags.Bool("json", false, "print the report as JSON")
	var dirs []string
	for rest := args; ; { // flags may stand before and after the directory
		if err := flags.Parse(rest); err != nil {
			return verify.ExitCannot
		}
		if flags.NArg() == 0 {
			break
		}
		dirs, rest = append(dirs, flags.Arg(0)), flags.Args()[1:]
	}
	if len(dirs) != 1 {
		flags.Usage()
		return verify.ExitCannot
	}
	report, err := check(ctx, dirs[0], *trust)
	if err == nil {
		if *asJSON {
			if err = json.MarshalWrite(out, report); err == nil {
				_, err = fmt.Fprintln(out)
			}
		} else {
			err = report.WriteText(out)
		}
	}
	if err != nil {
		fmt.Fprintf(errw, "guardbook-verify: %q\n", err)
		return verify.ExitCannot
	}
	return report.Exit
}

func check(ctx context.Context, dir, trust string) (*verify.Report, error) {
	root, err := verify.ParseTrust(trust)
	if err != nil {
		return nil, err
	}
	logs, files, err := verify.OpenDir(dir)
	if err != nil {
		return nil, err
	}
	defer files.Close()
	return verify.Verify(ctx, logs, verify.Options{Book: dir, Trust: root})
}
