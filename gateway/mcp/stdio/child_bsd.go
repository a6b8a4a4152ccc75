//go:build unix && !linux

package stdio

import "syscall"

// dieWithParent does nothing: a server sees that its input has ended.
func dieWithParent(*syscall.SysProcAttr) {}
