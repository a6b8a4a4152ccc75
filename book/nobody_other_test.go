//go:build !linux

package book_test

func actAsNobody() { panic("run the tests as somebody other than root") }
