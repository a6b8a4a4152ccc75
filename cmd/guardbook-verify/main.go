// Command guardbook-verify checks a book that was exported as C2SP tlog-tiles: a
// directory that is a log, or that holds one for each epoch. It reads files and
// nothing else: no database, no network, no key but the one it is given. It is a
// program of its own so that an auditor doesn't have to check a book with the
// program that wrote it.
//
// Exit codes: 0 intact, complete, pinned and anchored up to the last signed entry; 1
// an integrity failure; 2 it could not run; 3 intact, but incomplete, unanchored or
// unpinned.
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

const exitCodes = `Exit codes:
  0  intact, complete, signed by the trusted key and anchored up to the last signed entry
  1  something is not as it was signed, is missing or does not fit an anchor
  2  it could not run
  3  intact, but with gaps, or not anchored up to there, or signed by a key that nobody
     vouched for (no --trust)
`

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, out, errw io.Writer) int {
	flags := flag.NewFlagSet("guardbook-verify", flag.ContinueOnError)
	flags.SetOutput(errw)
	flags.Usage = func() {
		fmt.Fprintln(errw, "usage: guardbook-verify [--trust KEY] [--anchor FILE]... [--json] DIR")
		flags.PrintDefaults()
		fmt.Fprint(errw, exitCodes)
	}
	trust := flags.String("trust", "", "the key that must have signed the book: a verifier key, its fingerprint, or a file that holds one of them")
	var anchors []string
	flags.Func("anchor", "a `file` with a signed checkpoint that was kept out of the operator's reach; can be given more than once", func(name string) error {
		anchors = append(anchors, name)
		return nil
	})
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
	report, err := check(ctx, dirs[0], *trust, anchors)
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

func check(ctx context.Context, dir, trust string, anchors []string) (*verify.Report, error) {
	root, err := verify.ParseTrust(trust)
	if err != nil {
		return nil, err
	}
	kept, err := verify.ReadAnchors(anchors)
	if err != nil {
		return nil, err
	}
	logs, files, err := verify.OpenDir(dir)
	if err != nil {
		return nil, err
	}
	defer files.Close()
	return verify.Verify(ctx, logs, verify.Options{Book: dir, Trust: root, Anchors: kept})
}
