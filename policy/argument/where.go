package argument

import (
	"slices"

	tree "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// readsTable reports whether a FROM clause names a table itself, not only by way
// of a subquery, which is a block of its own.
func (i *inspection) readsTable(from []*tree.Node) bool {
	return slices.ContainsFunc(from, func(n *tree.Node) bool {
		switch {
		case n.GetRangeVar() != nil:
			r := n.GetRangeVar()
			return r.GetSchemaname() != "" || !slices.Contains(i.ctes, r.GetRelname())
		case n.GetJoinExpr() != nil:
			return i.readsTable([]*tree.Node{n.GetJoinExpr().GetLarg(), n.GetJoinExpr().GetRarg()})
		case n.GetRangeTableSample() != nil:
			return i.readsTable([]*tree.Node{n.GetRangeTableSample().GetRelation()})
		}
		return false
	})
}

// narrows reports whether a condition can leave out a row: it compares a column,
// in every branch of an OR. Constants and a column with itself do not count. It
// is a guard against a forgotten condition and its usual disguises (true, 1=1,
// id=id, "or true"), not a proof that few rows remain.
func narrows(n *tree.Node) bool {
	switch {
	case n == nil || n.GetNode() == nil:
		return false
	case n.GetBoolExpr() != nil:
		args := n.GetBoolExpr().GetArgs()
		if n.GetBoolExpr().GetBoolop() == tree.BoolExprType_OR_EXPR {
			return !slices.ContainsFunc(args, func(a *tree.Node) bool { return !narrows(a) })
		}
		return slices.ContainsFunc(args, narrows)
	case n.GetAExpr() != nil:
		e := n.GetAExpr()
		l, r := columnOf(e.GetLexpr()), columnOf(e.GetRexpr())
		if l != "" && l == r {
			return false
		}
		return namesColumn(n)
	case n.GetSubLink() != nil:
		s := n.GetSubLink()
		return namesColumn(s.GetTestexpr()) || narrows(s.GetSubselect().GetSelectStmt().GetWhereClause())
	}
	return namesColumn(n)
}

// columnOf returns a column's qualified name if the expression is nothing else.
func columnOf(n *tree.Node) string {
	name := ""
	for _, f := range n.GetColumnRef().GetFields() {
		name += f.GetString_().GetSval() + "."
	}
	return name
}

// namesColumn reports whether an expression reads a column, outside of its subqueries.
func namesColumn(n *tree.Node) bool {
	if n == nil {
		return false
	}
	var walk func(m protoreflect.Message) bool
	walk = func(m protoreflect.Message) (found bool) {
		switch m.Interface().(type) {
		case *tree.ColumnRef:
			return true
		case *tree.SelectStmt:
			return false
		}
		m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			if fd.Message() == nil {
				return true
			}
			if !fd.IsList() {
				found = walk(v.Message())
				return !found
			}
			for k, list := 0, v.List(); k < list.Len() && !found; k++ {
				found = walk(list.Get(k).Message())
			}
			return !found
		})
		return found
	}
	return walk(n.ProtoReflect())
}
