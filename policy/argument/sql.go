package argument

import (
	"context"
	"encoding/json/jsontext"
	"slices"
	"strings"

	tree "github.com/pganalyze/pg_query_go/v6"
)

// SQLDialects lists the dialects that can be checked: those for which there is a
// real parser.
func SQLDialects() []string { return []string{"postgres"} }

// SQLStatements lists the statements that can be allowed.
func SQLStatements() []string { return []string{"select", "insert", "update", "delete", "merge"} }

// SQL is one SQL statement that keeps to what a policy lists. The text is parsed
// by PostgreSQL's own parser; what does not parse is refused.
type SQL struct {
	statements []string
	tables     []string
	columns    []string // nil: any
	functions  []string // allowed besides the harmless ones
	where      bool
	limit      int // < 0: none needed
}

// SQLOptions configures an SQL.
type SQLOptions struct {
	Dialect    string   // of SQLDialects
	Statements []string // of SQLStatements
	// Tables holds "products" (an unqualified name), "sales.orders" (a qualified
	// one), or a glob ("sales.*"). A glob does not cross the dot and never matches
	// what belongs to the database system.
	Tables       []string
	Columns      []string // nil: any column
	Functions    []string // allowed besides the harmless ones; "my_schema.my_function"
	RequireWhere bool     // every block that reads a table needs a WHERE on a column
	MaxLimit     *int     // a select needs LIMIT n with n at most this
}

// NewSQL returns the constraint that a value is an SQL statement.
func NewSQL(o SQLOptions) (*SQL, []Problem) {
	s := &SQL{statements: o.Statements, tables: o.Tables, columns: o.Columns, functions: o.Functions, where: o.RequireWhere, limit: -1}
	var problems []Problem
	if !slices.Contains(SQLDialects(), o.Dialect) {
		problems = append(problems, Problem{"dialect", -1, "unknown dialect " + Quote(o.Dialect) + ": allowed: " + strings.Join(SQLDialects(), ", ")})
	}
	for i, st := range o.Statements {
		if !slices.Contains(SQLStatements(), st) {
			problems = append(problems, Problem{"statements", i, "unknown statement " + Quote(st) + ": allowed: " + strings.Join(SQLStatements(), ", ")})
		}
	}
	if len(o.Statements) == 0 {
		problems = append(problems, Problem{"statements", -1, "statements is empty: no statement fits"})
	}
	for i, t := range o.Tables {
		if strings.Count(t, ".") > 2 || slices.Contains(strings.Split(t, "."), "") || strings.ContainsAny(t, "\" \t") {
			problems = append(problems, Problem{"tables", i, "bad table " + Quote(t) + ": use name, schema.name or a glob such as schema.*, spelled as the database stores it and without quotes"})
		}
	}
	if o.MaxLimit != nil {
		s.limit = *o.MaxLimit
		if !slices.Contains(o.Statements, "select") {
			problems = append(problems, Problem{"max_limit", -1, "max_limit is for select, which statements does not list"})
		}
	}
	return s, problems
}

// Check implements Type.
func (s *SQL) Check(ctx context.Context, name string, value jsontext.Value) string {
	sql, problem := text(name, value)
	if problem != "" {
		return problem
	}
	result, err := postgres.parse(ctx, sql)
	if err != nil {
		return Quote(name) + " cannot be read as a PostgreSQL statement: " + clean(err.Error())
	}
	statements := result.GetStmts()
	switch {
	case len(statements) == 0:
		return Quote(name) + " holds no SQL statement"
	case len(statements) > 1:
		return Quote(name) + " holds more than one SQL statement"
	}
	i := inspection{rules: s}
	i.top(statements[0].GetStmt())
	return i.reason
}

// clean makes an error's text, which may quote the statement, fit for a message.
func clean(s string) string {
	quoted := Quote(s)
	return strings.ReplaceAll(quoted[1:strings.LastIndexByte(quoted, '"')], `\"`, `"`)
}

// matchTable reports whether a table's name, as the parser read it, is listed.
func (s *SQL) matchTable(catalog, schema, table string) bool {
	name := qualified(catalog, schema, table)
	for _, t := range s.tables {
		if t == name {
			return true
		}
		if !strings.Contains(t, "*") || catalog != "" || systemTable(schema, table) {
			continue
		}
		s, n, two := strings.Cut(t, ".")
		if !two {
			s, n = "", t
		}
		if (s == "") == (schema == "") && Match(s, schema) && Match(n, table) {
			return true
		}
	}
	return false
}

// systemTable reports whether a name can lead to the system's own tables, which
// are found without their schema, too.
func systemTable(schema, table string) bool {
	return strings.HasPrefix(schema, "pg_") || schema == "information_schema" || schema == "" && strings.HasPrefix(table, "pg_")
}

func qualified(catalog, schema, table string) string {
	name := table
	if schema != "" {
		name = schema + "." + name
	}
	if catalog != "" {
		name = catalog + "." + name
	}
	return name
}

// allowsFunction reports whether a function may be called: one of PostgreSQL's
// own that do nothing but compute, or one that the policy lists.
func (s *SQL) allowsFunction(parts []string) bool {
	name := strings.Join(parts, ".")
	if slices.Contains(s.functions, name) {
		return true
	}
	if len(parts) == 2 && parts[0] == "pg_catalog" {
		parts = parts[1:]
	}
	if len(parts) != 1 || s.limit >= 0 && gathering[parts[0]] {
		return false
	}
	return harmless[parts[0]]
}

// strings of a list of String nodes.
func names(nodes []*tree.Node) []string {
	out := make([]string, 0, len(nodes))
	for _, n := range nodes {
		out = append(out, n.GetString_().GetSval())
	}
	return out
}
