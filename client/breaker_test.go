package client

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestTheBreakerOpensAndProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := breaker{now: time.Now}
		for range breakerFailures - 1 {
			b.failed()
		}
		if !b.allow() {
			t.Fatal("it opened too early")
		}
		b.succeeded()
		for range breakerFailures - 1 {
			b.failed()
		}
		time.Sleep(breakerWindow)
		b.failed() // the others are too old to count
		if !b.allow() {
			t.Fatal("failures of long ago were counted")
		}
		for range breakerFailures - 1 {
			b.failed()
		}
		if b.allow() {
			t.Fatal("it did not open")
		}
		time.Sleep(breakerOpen)
		if !b.allow() || b.allow() {
			t.Fatal("one question, and only one, probes")
		}
		b.failed()
		if b.allow() {
			t.Fatal("a failed probe closed it")
		}
		time.Sleep(breakerOpen)
		if !b.allow() {
			t.Fatal("it does not probe again")
		}
		b.succeeded()
		if first, second := b.allow(), b.allow(); !first || !second {
			t.Fatal("a probe that succeeded did not close it")
		}
	})
}
