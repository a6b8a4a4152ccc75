//go:build unix

package doctor

import (
	"errors"
	"os"
	"syscall"
)

// lockHeld reports whether a process holds a lock file. It asks for a shared
// lock and gives it back at once.
func lockHeld(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}
