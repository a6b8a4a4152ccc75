//go:build unix

package stdio

import (
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// own puts the process into a group of its own. Where the system can do it, the
// process does not outlive a wrapper that is killed.
func own(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(cmd.SysProcAttr)
}

// A group that is gone already needs no signal, hence the errors dropped here.

func terminate(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
func killGroup(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }

func exitCode(s *os.ProcessState) int {
	if w, ok := s.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return 128 + int(w.Signal())
	}
	return s.ExitCode()
}

// notify sends the signals that a server may get from its client.
func notify(c chan<- os.Signal) (stop func()) {
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	// A client that does not read any more is an error of a write, and no end: the
	// server must still be ended in good order. (Ignored, it would be so in the server,
	// too.)
	pipe := make(chan os.Signal, 1)
	signal.Notify(pipe, syscall.SIGPIPE)
	return func() {
		signal.Stop(c)
		signal.Stop(pipe)
	}
}

// forward passes a signal on to the server's group, and reports whether it is one
// that asks to end.
func forward(cmd *exec.Cmd, s os.Signal) (ends bool) {
	n, ok := s.(syscall.Signal)
	if !ok {
		return false
	}
	_ = syscall.Kill(-cmd.Process.Pid, n)
	return n != syscall.SIGUSR1 && n != syscall.SIGUSR2
}
