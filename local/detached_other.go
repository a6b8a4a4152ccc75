//go:build !unix

package local

import "syscall"

// detached leaves a process as it is: Guardbook's server runs on Unix systems.
func detached() *syscall.SysProcAttr { return nil }
