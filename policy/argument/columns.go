package argument

import (
	"slices"

	tree "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Where a policy lists columns, every way to read one by another name is refused:
// stars, rows as a whole, lists of column aliases, natural joins.

// column checks a node that names columns.
func (i *inspection) column(m protoreflect.Message) {
	switch n := m.Interface().(type) {
	case *tree.ColumnRef:
		i.columnPath(n.GetFields())
	case *tree.A_Indirection:
		for _, x := range n.GetIndirection() {
			if x.GetAStar() != nil || x.GetString_() != nil {
				i.columnPath([]*tree.Node{x})
			}
		}
	case *tree.JoinExpr:
		if n.GetIsNatural() {
			i.refuse("NATURAL JOIN compares columns that it does not name")
		}
		for _, name := range names(n.GetUsingClause()) {
			i.columnName(name)
		}
		i.alias(n.GetAlias())
	case *tree.IndexElem:
		if n.GetName() != "" {
			i.columnName(n.GetName())
		}
	case *tree.Alias:
		i.alias(n)
	}
}

func (i *inspection) columnPath(fields []*tree.Node) {
	if len(fields) == 0 {
		return
	}
	last := fields[len(fields)-1]
	if last.GetAStar() != nil {
		i.refuse(`"*" reads every column: name them, among ` + Among(i.rules.columns))
		return
	}
	i.columnName(last.GetString_().GetSval())
}

func (i *inspection) columnName(name string) {
	switch {
	case i.relations[name]:
		i.refuse(Quote(name) + " names a table or an alias, which reads every column: name columns, among " + Among(i.rules.columns))
	case !slices.Contains(i.rules.columns, name):
		i.refuse("column " + Quote(name) + " is not among " + Among(i.rules.columns))
	}
}

// targets checks the columns that INSERT, UPDATE and MERGE write.
func (i *inspection) targets(list []*tree.Node) {
	if i.rules.columns == nil {
		return
	}
	for _, n := range list {
		if t := n.GetResTarget(); t != nil && t.GetName() != "" {
			i.columnName(t.GetName())
		}
	}
}

func (i *inspection) alias(a *tree.Alias) {
	if i.rules.columns != nil && len(a.GetColnames()) > 0 {
		i.refuse("a list of column names behind " + Quote(a.GetAliasname()) + " hides which columns are read")
	}
}

// gather notes the names of tables, aliases and WITH queries in the statement.
func (i *inspection) gather(m protoreflect.Message) {
	switch n := m.Interface().(type) {
	case *tree.RangeVar:
		i.relations[n.GetRelname()] = true
	case *tree.Alias:
		i.relations[n.GetAliasname()] = true
	case *tree.CommonTableExpr:
		i.relations[n.GetCtename()] = true
	case *tree.RangeFunction: // a function in FROM gives its name to its row
		for _, f := range n.GetFunctions() {
			for _, item := range f.GetList().GetItems() {
				if name := names(item.GetFuncCall().GetFuncname()); len(name) > 0 {
					i.relations[name[len(name)-1]] = true
				}
			}
		}
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if fd.Message() == nil {
			return true
		}
		if !fd.IsList() {
			i.gather(v.Message())
			return true
		}
		for k, list := 0, v.List(); k < list.Len(); k++ {
			i.gather(list.Get(k).Message())
		}
		return true
	})
}
