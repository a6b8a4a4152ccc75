package instance

import (
	"context"
	"fmt"
	"time"

	"github.com/guardbook/guardbook/canary"
)

// canaryEvery is how often test interactions are played; 0: never.
func (c *Config) canaryEvery() (time.Duration, error) {
	if c.CanaryEvery == "off" || c.CanaryEvery == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(c.CanaryEvery)
	if err != nil || d < time.Second {
		return 0, fmt.Errorf("canary-every is %q (from %s): give a duration of at least 1s, for example 5m, or off", c.CanaryEvery, c.Origins["canary-every"])
	}
	return d, nil
}

// canariesSetting is how the start entry tells it.
func (c *Config) canariesSetting() string {
	if d, err := c.canaryEvery(); err == nil && d > 0 {
		return d.String()
	}
	return "off"
}

// playCanaries plays test interactions until ctx ends.
func (i *Instance) playCanaries(ctx context.Context) error {
	every, err := i.cfg.canaryEvery()
	if err != nil {
		return err
	}
	return canary.New(canary.Options{URL: i.URL(), Keys: i.keys, Book: i.book, Recorder: i.guard, Every: every, Log: i.log}).Run(ctx)
}
