//go:build unix

package local

import "syscall"

// detached makes a process the leader of a session of its own: a Ctrl-C that is
// meant for the agent does not end it.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
