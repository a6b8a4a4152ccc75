package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/guardbook/guardbook/book"
	"github.com/guardbook/guardbook/book/verify"
)

// bookDir is where the book of a data directory lies.
func (c *cli) bookDir() string { return filepath.Join(c.dataDir(), "book") }

func newBook(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "book",
		Short: "Verify the book, print its entries, prove that one is in it",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBookVerify(c), newBookCat(c), newBookProof(c))
	return cmd
}

func newBookVerify(c *cli) *cobra.Command {
	var trust string
	var anchors []string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Recompute the whole book from its raw bytes, also while the server runs",
		Long: `Recompute the whole book from its raw bytes: every entry, hash, tile and checkpoint.

It reads the data directory itself and needs no server. An anchor is a signed checkpoint
that was kept out of the operator's reach: who holds the signing key could write another
history, and could not make it fit. Entries that are not signed yet are no gap while they
are younger than a minute.

Exit codes: 0 intact, complete, signed by the trusted key and anchored up to the last
signed entry; 1 something is not as it was signed, is missing or does not fit an anchor;
2 could not run; 3 intact, but with gaps, or not anchored up to there, or signed by a key
that nobody vouched for (no --trust).`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			root, err := verify.ParseTrust(trust)
			if err != nil {
				return err
			}
			kept, err := verify.ReadAnchors(anchors)
			if err != nil {
				return err
			}
			r, err := book.OpenReader(c.bookDir())
			if err != nil {
				return err
			}
			defer r.Close()
			report, err := verify.Verify(cmd.Context(), r.Logs(), verify.Options{Book: c.bookDir(), Trust: root, Anchors: kept})
			if err != nil {
				return err
			}
			if c.json {
				err = c.printJSON(report)
			} else {
				err = report.WriteText(c.out)
			}
			if err == nil && report.Exit != 0 {
				err = exit(report.Exit)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&trust, "trust", "", "the key that must have signed the book: a verifier key, its fingerprint, or a file that holds one of them")
	cmd.Flags().StringArrayVar(&anchors, "anchor", nil, "a file with a signed checkpoint that was kept out of the operator's reach; can be given more than once")
	return cmd
}

func newBookCat(c *cli) *cobra.Command {
	var from, to int64
	var epoch int
	cmd := &cobra.Command{
		Use:   "cat",
		Short: "Print the raw entries, one a line",
		Long: `Print the raw entries, one a line: the bytes that were hashed. Without --epoch the
entries of every epoch are printed, oldest first; --from and --to are sequence numbers
within an epoch, both included.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := book.OpenReader(c.bookDir())
			if err != nil {
				return err
			}
			defer r.Close()
			known := false
			for _, e := range r.Epochs() {
				if epoch != 0 && e.Number != epoch {
					continue
				}
				known = true
				if err := c.catEpoch(cmd.Context(), r, e.Number, from, to); err != nil {
					return err
				}
			}
			if !known {
				return fmt.Errorf("the book has no epoch %d", epoch)
			}
			return nil
		},
	}
	cmd.Flags().Int64Var(&from, "from", 0, "first sequence number")
	cmd.Flags().Int64Var(&to, "to", -1, "last sequence number; -1: the newest")
	cmd.Flags().IntVar(&epoch, "epoch", 0, "one epoch only; 0: all")
	return cmd
}

func (c *cli) catEpoch(ctx context.Context, r *book.Reader, epoch int, from, to int64) error {
	const some = 1024
	var line []byte
	for to < 0 || from <= to {
		es, err := r.Read(ctx, epoch, from, some)
		if err != nil {
			return damaged(err)
		}
		if len(es) == 0 {
			return nil
		}
		for _, e := range es {
			if to >= 0 && e.Seq > to {
				return nil
			}
			line = append(append(line[:0], e.Raw...), '\n')
			if _, err := c.out.Write(line); err != nil {
				return err
			}
		}
		from += int64(len(es))
	}
	return nil
}

func newBookProof(c *cli) *cobra.Command {
	var epoch int
	cmd := &cobra.Command{
		Use:   "proof SEQ|ID",
		Short: "Print the proof that an entry is in the book (C2SP tlog-proof)",
		Long: `Print the proof that an entry is in the book: an inclusion proof and the signed
checkpoint that it leads to, as C2SP tlog-proof text. SEQ is looked up in the newest
epoch unless --epoch says otherwise; an entry's ID is found in any.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := book.OpenReader(c.bookDir())
			if err != nil {
				return err
			}
			defer r.Close()
			seq, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil {
				e, in, err := r.Find(cmd.Context(), args[0])
				if err != nil {
					return damaged(err)
				}
				seq, epoch = e.Seq, in
			}
			if epoch == 0 {
				all := r.Epochs()
				epoch = all[len(all)-1].Number
			}
			proof, err := r.Prove(cmd.Context(), epoch, seq)
			if err != nil {
				return damaged(err)
			}
			if c.json {
				return c.printJSON(struct {
					Epoch int    `json:"epoch"`
					Seq   int64  `json:"seq"`
					Proof string `json:"proof"`
				}{epoch, seq, string(proof)})
			}
			_, err = c.out.Write(proof)
			return err
		},
	}
	cmd.Flags().IntVar(&epoch, "epoch", 0, "the epoch that SEQ is in; 0: the newest")
	return cmd
}

// damaged gives an error the exit code 1 when it is about the book itself, as
// opposed to a command that could not run.
func damaged(err error) error {
	if errors.Is(err, book.ErrDamaged) || errors.Is(err, book.ErrNotFound) {
		return refused{err}
	}
	return err
}
