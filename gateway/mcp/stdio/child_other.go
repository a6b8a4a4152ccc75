//go:build !unix

package stdio

import (
	"os"
	"os/exec"
	"os/signal"
)

// own does nothing: there are no process groups here.
func own(*exec.Cmd) {}

// A process that is gone already needs no end, hence the errors dropped here.

func terminate(cmd *exec.Cmd) { _ = cmd.Process.Kill() }
func killGroup(cmd *exec.Cmd) { _ = cmd.Process.Kill() }

func exitCode(s *os.ProcessState) int { return s.ExitCode() }

// notify sends the signals that a server may get from its client.
func notify(c chan<- os.Signal) (stop func()) {
	signal.Notify(c, os.Interrupt)
	return func() { signal.Stop(c) }
}

// forward passes a signal on: consoles send theirs to every process.
func forward(*exec.Cmd, os.Signal) (ends bool) { return true }
