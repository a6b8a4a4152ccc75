package client

import (
	"encoding/json/v2"
	"errors"
	"fmt"

	"github.com/guardbook/guardbook"
)

// BlockedError means that the guard decided, and that the decision is no.
type BlockedError struct {
	Decision guardbook.Decision
}

// Error is the decision's message, for the agent and for people.
func (e *BlockedError) Error() string {
	if e.Decision.Message != "" {
		return e.Decision.Message
	}
	return "Blocked by " + e.Decision.Rule + ". Choose another approach; do not retry."
}

// UnavailableError means that no decision could be had, and that what has none is
// refused. It may be tried again.
type UnavailableError struct {
	Kind  guardbook.Kind
	Cause error
}

// Error says why there is no decision.
func (e *UnavailableError) Error() string {
	return fmt.Sprintf("no decision on this %s could be had, and without one it is refused: %v", e.Kind, e.Cause)
}

// Unwrap returns the cause.
func (e *UnavailableError) Unwrap() error { return e.Cause }

// Retryable is true: the guard may be there again.
func (e *UnavailableError) Retryable() bool { return true }

// AsBlocked finds the decision in an error that a call through the guard returned. It
// knows this package's own errors, and those that openai-go and anthropic-sdk-go make
// of a blocked request or answer.
func AsBlocked(err error) (*BlockedError, bool) {
	var own *BlockedError
	if errors.As(err, &own) {
		return own, true
	}
	var told interface{ RawJSON() string } // the error of a provider's SDK: the error object as it came
	if !errors.As(err, &told) {
		return nil, false
	}
	return blockedIn([]byte(told.RawJSON()))
}

// AsUnavailable finds out whether an error means that no decision could be had: this
// package's own, or what a provider's SDK makes of it.
func AsUnavailable(err error) (*UnavailableError, bool) {
	var own *UnavailableError
	if errors.As(err, &own) {
		return own, true
	}
	var told interface{ RawJSON() string }
	if !errors.As(err, &told) {
		return nil, false
	}
	e, ok := readError([]byte(told.RawJSON()))
	if !ok || e.Unavailable == "" {
		return nil, false
	}
	return &UnavailableError{Kind: guardbook.KindInput, Cause: errors.New(e.Unavailable)}, true
}

// errorObject is what is read of a provider's error, which may stand within another.
type errorObject struct {
	Error       *errorObject        `json:"error"`
	Guardbook   *guardbook.Decision `json:"guardbook"`
	Unavailable string              `json:"guardbook_unavailable"`
}

func (e errorObject) inner() errorObject {
	if e.Guardbook == nil && e.Unavailable == "" && e.Error != nil {
		return *e.Error
	}
	return e
}

// readError reads a provider's error; ok is false when it is none of the gateway's shape.
func readError(raw []byte) (e errorObject, ok bool) {
	ok = json.Unmarshal(raw, &e) == nil
	return e.inner(), ok
}

func blockedIn(raw []byte) (*BlockedError, bool) {
	e, ok := readError(raw)
	if !ok || e.Guardbook == nil {
		return nil, false
	}
	return &BlockedError{Decision: *e.Guardbook}, true
}
