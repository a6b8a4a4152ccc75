package book_test

import (
	"syscall"
	"testing"
)

// mountSmall mounts a file system of 8 MiB for the time of a test.
func mountSmall(t *testing.T, dir string) error {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		return err
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return nil
}
