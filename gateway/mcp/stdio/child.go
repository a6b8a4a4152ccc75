package stdio

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// child is the MCP server that is wrapped. It and whatever it starts are one
// process group, which ends as a whole.
type child struct {
	cmd    *exec.Cmd
	stdin  *os.File
	stdout *os.File
	ended  chan struct{} // closed when the process has ended
	drain  sync.WaitGroup

	closing sync.Once
}

// start starts the server. What it writes to stderr is read to the end, however
// slowly it is passed on, since a full pipe would stop the server.
func start(command []string, stderr io.Writer) (*child, error) {
	c := &child{cmd: exec.CommandContext(context.Background(), command[0], command[1:]...), ended: make(chan struct{})}
	c.cmd.Env = os.Environ()
	if !slices.ContainsFunc(c.cmd.Env, func(s string) bool { return strings.HasPrefix(s, "PYTHONUNBUFFERED=") }) {
		c.cmd.Env = append(c.cmd.Env, "PYTHONUNBUFFERED=1") // else Python keeps its answers in a buffer when they go into a pipe
	}
	c.cmd.Env = slices.DeleteFunc(c.cmd.Env, func(s string) bool {
		return strings.HasPrefix(s, "GUARDBOOK_KEY=") || strings.HasPrefix(s, "GUARDBOOK_TOKEN=")
	})
	own(c.cmd)
	// Pipes of our own: those of exec.Cmd are closed when the process ends, which
	// loses the last answers.
	var theirs, ours []*os.File
	closeAll := func(files []*os.File) {
		for _, f := range files {
			_ = f.Close()
		}
	}
	for range 3 {
		r, w, err := os.Pipe()
		if err != nil {
			closeAll(append(theirs, ours...))
			return nil, fmt.Errorf("make a pipe: %w", err)
		}
		if len(ours) == 0 {
			theirs, ours = append(theirs, r), append(ours, w)
		} else {
			theirs, ours = append(theirs, w), append(ours, r)
		}
	}
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = theirs[0], theirs[1], theirs[2]
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // Linux ends the server with the thread that started it: see own
		err := c.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		_ = c.cmd.Wait() // the state says how it ended
		close(c.ended)
	}()
	err := <-started
	closeAll(theirs)
	if err != nil {
		closeAll(ours)
		return nil, fmt.Errorf("start the MCP server %s: %w", command[0], err)
	}
	c.stdin, c.stdout = ours[0], ours[1]
	c.drain.Go(func() {
		passOn(stderr, ours[2])
		_ = ours[2].Close()
	})
	return c, nil
}

// closeStdin tells the server that there is nothing more to do.
func (c *child) closeStdin() { c.closing.Do(func() { _ = c.stdin.Close() }) }

// stop ends the server in good order: its input is closed, and when that is not
// enough, its group is told to end, and then ended.
func (c *child) stop(grace time.Duration) {
	c.closeStdin()
	for _, end := range []func(){func() {}, func() { terminate(c.cmd) }, func() { killGroup(c.cmd) }} {
		end()
		select {
		case <-c.ended:
			killGroup(c.cmd) // what the server started and left behind
			return
		case <-time.After(grace):
		}
	}
}

// code is the exit code of a server that has ended; one that a signal ended has
// 128 and the signal's number, as in a shell.
func (c *child) code() int {
	<-c.ended
	return exitCode(c.cmd.ProcessState)
}

// passOn copies the server's stderr. When nobody takes what is written, the pieces
// that do not fit into a queue are dropped, and their number is told.
func passOn(to io.Writer, from io.Reader) {
	queue := make(chan []byte, 256)
	done := make(chan struct{})
	var dropped int64
	go func() {
		defer close(done)
		for b := range queue {
			_, _ = to.Write(b) // nowhere is left to tell it
		}
	}()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			piece := slices.Clone(buf[:n])
			if dropped > 0 {
				piece = append(fmt.Appendf(nil, "\n[guardbook: %d bytes of the server's stderr were dropped, since nobody read them]\n", dropped), piece...)
			}
			select {
			case queue <- piece:
				dropped = 0
			default:
				dropped += int64(n)
			}
		}
		if err != nil {
			break
		}
	}
	close(queue)
	select {
	case <-done:
	case <-time.After(time.Second): // nobody reads it
	}
}
