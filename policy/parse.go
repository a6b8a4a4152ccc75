package policy

// Parse reads one policy file.
func Parse(file string, src []byte) (*Policy, error) {
	return nil, &Errors{List: []*Error{{File: file, Line: 1, Column: 1, Message: "not read"}}}
}

func (p *Policy) errorAt(field string, i int, message string) *Error {
	return &Error{File: p.File, Line: 1, Column: 1, Message: message}
}
