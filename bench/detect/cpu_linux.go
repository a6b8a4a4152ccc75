package main

import (
	"runtime"
	"syscall"
	"time"
)

// clock says what "time" in the tables is.
const clock = "CPU time of the scanning thread"

// cpuTime is the processor time that the calling thread has used, so that other
// work on the machine does not count. The first call ties the goroutine to its
// thread.
func cpuTime() time.Duration {
	runtime.LockOSThread()
	var u syscall.Rusage
	const rusageThread = 1
	if err := syscall.Getrusage(rusageThread, &u); err != nil {
		return time.Duration(time.Now().UnixNano())
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
