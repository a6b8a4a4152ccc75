package book_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/guardbook/guardbook/book"
	"github.com/guardbook/guardbook/book/verify"
)

// fillTheDisk is a process whose files may not grow past a limit (RLIMIT_FSIZE,
// which the kernel enforces on every write): what a full disk does, without a
// disk. It prints what it saw, and the limit is lifted half-way.
func fillTheDisk() int {
	if err := fullDisk(os.Getenv(dataVar), book.Durability(os.Getenv(durabilityVar)), limitFiles); err != nil {
		slog.Error("child", "error", err)
		return 1
	}
	return 0
}

// limitFiles makes files unable to grow past the journal's present size.
func limitFiles(data string) (lift func() error, err error) {
	signal.Ignore(syscall.SIGXFSZ)
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		return nil, err
	}
	info, err := os.Stat(filepath.Join(data, "book", "1", "journal.db-wal"))
	if err != nil {
		return nil, err
	}
	limit := old
	limit.Cur = uint64(info.Size()) + 60_000
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return nil, err
	}
	return func() error { return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old) }, nil
}

// fullDisk appends to a book until the disk that make fills is full, makes space,
// and says what was not as it should be.
func fullDisk(data string, d book.Durability, fill func(data string) (lift func() error, err error)) error {
	ctx := context.Background()
	key, _, err := book.LoadKey(filepath.Join(data, "signing-key"))
	if err != nil {
		return err
	}
	b, err := book.Open(filepath.Join(data, "book"), book.Options{Key: key, Durability: d, SyncEvery: time.Millisecond, SealEvery: time.Hour})
	if err != nil {
		return err
	}
	next := int64(0)
	add := func() error {
		rs, err := b.Append(ctx, heartbeat(next))
		if err != nil {
			return err
		}
		if rs[0].Seq != next {
			return fmt.Errorf("entry %d got number %d", next, rs[0].Seq)
		}
		next++
		return nil
	}
	for range 20 {
		if err := add(); err != nil {
			return fmt.Errorf("before the disk was full: %w", err)
		}
	}
	lift, err := fill(data)
	if err != nil {
		return fmt.Errorf("fill the disk: %w", err)
	}
	refused := 0
	for range 100_000 {
		if err = add(); err != nil {
			if !errors.Is(err, book.ErrUnconfirmed) {
				return fmt.Errorf("full disk: %w", err)
			}
			if b.Writable() == nil {
				return errors.New("the book calls itself writable after a failed append")
			}
			if refused++; refused == 5 {
				break
			}
		}
	}
	if refused < 5 {
		return errors.New("the disk did not get full")
	}
	if es, err := b.Read(ctx, 0, 10); err != nil || len(es) != 10 {
		return fmt.Errorf("the full book cannot be read: %w", err)
	}
	if err := lift(); err != nil {
		return err
	}
	for b.Writable() != nil { // by itself, with nobody sending anything
		time.Sleep(10 * time.Millisecond)
	}
	for range 50 {
		if err := add(); err != nil {
			return fmt.Errorf("after there was space again: %w", err)
		}
	}
	if b.Size() != next {
		return fmt.Errorf("the book has %d entries, %d were acknowledged", b.Size(), next)
	}
	return b.Close()
}

func TestAFullDiskRefusesAndTheBookGoesOnWhenThereIsSpace(t *testing.T) {
	for _, d := range []book.Durability{book.Strict, book.Balanced} {
		t.Run("limit/"+string(d), func(t *testing.T) {
			data := t.TempDir()
			child := exec.Command(os.Args[0])
			child.Env = append(os.Environ(), childVar+"=full", dataVar+"="+data, durabilityVar+"="+string(d))
			if out, err := child.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if rep := report(t, data, keyIn(t, data).Verifier(), kept(t, data)...); rep.Exit != verify.ExitIntact {
				rep.WriteText(t.Output())
				t.Error("the book does not verify")
			}
		})
		t.Run("filesystem/"+string(d), func(t *testing.T) {
			data := t.TempDir()
			if err := mountSmall(t, data); err != nil {
				t.Logf("no small file system can be mounted here (%v): the limit on file sizes has to do", err)
				return
			}
			err := fullDisk(data, d, func(data string) (func() error, error) {
				filler, err := os.Create(filepath.Join(data, "filler"))
				if err != nil {
					return nil, err
				}
				defer filler.Close()
				block := make([]byte, 4096)
				for err == nil {
					_, err = filler.Write(block)
				}
				if !errors.Is(err, syscall.ENOSPC) {
					return nil, err
				}
				return func() error { return os.Remove(filler.Name()) }, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if rep := report(t, data, keyIn(t, data).Verifier(), kept(t, data)...); rep.Exit != verify.ExitIntact {
				rep.WriteText(t.Output())
				t.Error("the book does not verify")
			}
		})
	}
}
