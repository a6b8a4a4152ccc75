//go:build unix

package stdio_test

import (
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"
)

func ignoreSignals() { signal.Ignore(syscall.SIGTERM, syscall.SIGINT) }

// answerSignals writes down the signals that come, and ends on SIGTERM with code 42.
func answerSignals(file string) {
	f, err := os.Create(file)
	if err != nil {
		os.Exit(9)
	}
	c := make(chan os.Signal, 4)
	signal.Notify(c, syscall.SIGUSR1, syscall.SIGTERM)
	fmt.Fprintln(f, "ready")
	go func() {
		for s := range c {
			fmt.Fprintln(f, s)
			if s == syscall.SIGTERM {
				os.Exit(42)
			}
		}
	}()
}

func signalTo(t *testing.T, pid int, name string) {
	t.Helper()
	if err := syscall.Kill(pid, map[string]syscall.Signal{"USR1": syscall.SIGUSR1, "TERM": syscall.SIGTERM}[name]); err != nil {
		t.Fatal(err)
	}
}

// gone reports whether a process has ended; one that nobody has collected yet has.
func gone(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return true
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && bytes.Contains(b, []byte(") Z"))
}
