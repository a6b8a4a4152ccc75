package argument

import (
	"slices"
	"strings"

	tree "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// inspection walks the tree of one statement and stops at the first thing that
// the rules do not allow. It visits every node: a kind that it has no case for
// is walked through, so that a table or a function cannot hide in it.
type inspection struct {
	rules  *SQL
	reason string
	where  string   // why a WHERE is needed; told only if there is nothing worse
	ctes   []string // names of the WITH queries that are in scope, innermost last
	// relations holds every name by which a row as a whole could be read; only
	// gathered when columns are restricted.
	relations map[string]bool
}

func (i *inspection) refuse(reason string) {
	if i.reason == "" {
		i.reason = reason
	}
}

// top checks the statement as a whole and then everything in it.
func (i *inspection) top(n *tree.Node) {
	kind := statementKind(n)
	if !slices.Contains(i.rules.statements, kind) {
		i.refuse("statement " + Quote(kind) + " is not among " + Among(i.rules.statements))
		return
	}
	if i.rules.columns != nil {
		i.relations = map[string]bool{}
		i.gather(n.ProtoReflect())
	}
	i.message(n.ProtoReflect())
	if i.where != "" {
		i.refuse(i.where)
	}
	if s := n.GetSelectStmt(); s != nil && i.rules.limit >= 0 {
		i.limit(s)
	}
}

// statementKind names a statement as a policy does: "select", "drop".
func statementKind(n *tree.Node) string {
	kind := "unknown"
	n.ProtoReflect().Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if fd.Message() != nil {
			kind = strings.ToLower(strings.TrimSuffix(string(fd.Message().Name()), "Stmt"))
		}
		return false
	})
	return kind
}

// message visits a node; what has a meaning of its own is handled in its case.
func (i *inspection) message(m protoreflect.Message) {
	if i.reason != "" {
		return
	}
	switch n := m.Interface().(type) {
	case *tree.SelectStmt:
		i.selectStmt(n)
	case *tree.InsertStmt:
		i.modifying("insert", n.GetRelation(), n.GetWithClause(), m, "relation", "with_clause", "cols")
	case *tree.UpdateStmt:
		i.modifying("update", n.GetRelation(), n.GetWithClause(), m, "relation", "with_clause")
	case *tree.DeleteStmt:
		i.modifying("delete", n.GetRelation(), n.GetWithClause(), m, "relation", "with_clause")
	case *tree.MergeStmt:
		i.modifying("merge", n.GetRelation(), n.GetWithClause(), m, "relation", "with_clause")
	case *tree.OnConflictClause:
		if n.GetAction() == tree.OnConflictAction_ONCONFLICT_UPDATE {
			i.need("update")
			i.targets(n.GetTargetList())
		}
		i.children(m)
	case *tree.MergeWhenClause:
		i.targets(n.GetTargetList())
		i.children(m)
	case *tree.RangeVar:
		i.table(n, false)
		i.alias(n.GetAlias())
	case *tree.FuncCall:
		i.function(names(n.GetFuncname()))
		i.children(m)
	case *tree.A_Expr:
		// OPERATOR(schema.+) calls a function of that schema.
		if name := names(n.GetName()); len(name) > 1 && name[0] != "pg_catalog" {
			i.refuse("operator " + Quote(strings.Join(name, ".")) + " is not one of PostgreSQL's own")
		}
		i.children(m)
	case *tree.RangeTableSample:
		if method := strings.Join(names(n.GetMethod()), "."); method != "bernoulli" && method != "system" {
			i.refuse("sampling method " + Quote(method) + " is not among bernoulli, system")
		}
		i.children(m)
	case *tree.LockingClause: // its relations are aliases of the FROM clause
		i.need("update")
	case *tree.IntoClause:
		i.refuse(`SELECT INTO makes a table and is not allowed`)
	default:
		i.rowsInOne(m)
		if i.rules.columns != nil {
			i.column(m)
		}
		i.children(m)
	}
}

// children visits every node below m, except the fields named.
func (i *inspection) children(m protoreflect.Message, except ...string) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if fd.Message() == nil || slices.Contains(except, string(fd.Name())) {
			return i.reason == ""
		}
		if fd.IsList() {
			for k, list := 0, v.List(); k < list.Len(); k++ {
				i.message(list.Get(k).Message())
			}
		} else {
			i.message(v.Message())
		}
		return i.reason == ""
	})
}

func (i *inspection) need(kind string) {
	if !slices.Contains(i.rules.statements, kind) {
		i.refuse("the statement changes or locks rows as " + strings.ToUpper(kind) + " does, which is not among " + Among(i.rules.statements))
	}
}

// with visits the queries of a WITH clause and brings their names into scope, as
// PostgreSQL does: with RECURSIVE every name is known in every query, else a name
// is known only in the queries after it, so that "WITH users AS (SELECT * FROM
// users)" reads the table. The caller restores i.ctes.
func (i *inspection) with(w *tree.WithClause) {
	if w == nil {
		return
	}
	if w.GetRecursive() {
		for _, n := range w.GetCtes() {
			i.ctes = append(i.ctes, n.GetCommonTableExpr().GetCtename())
		}
	}
	for _, n := range w.GetCtes() {
		cte := n.GetCommonTableExpr()
		if i.rules.columns != nil && len(cte.GetAliascolnames()) > 0 {
			i.refuse("a list of column names behind " + Quote(cte.GetCtename()) + " hides which columns are read")
		}
		before := len(i.ctes)
		i.children(cte.ProtoReflect())
		i.ctes = i.ctes[:before]
		if !w.GetRecursive() {
			i.ctes = append(i.ctes, cte.GetCtename())
		}
	}
}

func (i *inspection) selectStmt(s *tree.SelectStmt) {
	before := len(i.ctes)
	i.with(s.GetWithClause())
	if i.rules.where && i.readsTable(s.GetFromClause()) && !narrows(s.GetWhereClause()) {
		i.where = "the statement reads a table without a WHERE that compares a column"
	}
	i.children(s.ProtoReflect(), "with_clause")
	i.ctes = i.ctes[:before]
}

// modifying checks a statement that changes a table, at the top or in a WITH.
func (i *inspection) modifying(kind string, target *tree.RangeVar, w *tree.WithClause, m protoreflect.Message, except ...string) {
	i.need(kind)
	before := len(i.ctes)
	i.with(w)
	i.table(target, true)
	i.alias(target.GetAlias())
	switch n := m.Interface().(type) {
	case *tree.InsertStmt:
		if i.rules.columns != nil && len(n.GetCols()) == 0 {
			i.refuse("INSERT has to name its columns, among " + Among(i.rules.columns))
		}
		i.targets(n.GetCols())
	case *tree.UpdateStmt:
		i.targets(n.GetTargetList())
		i.narrowed(n.GetWhereClause())
	case *tree.DeleteStmt:
		i.narrowed(n.GetWhereClause())
	case *tree.MergeStmt:
		i.narrowed(n.GetJoinCondition())
	}
	i.children(m, except...)
	i.ctes = i.ctes[:before]
}

func (i *inspection) narrowed(where *tree.Node) {
	if i.rules.where && !narrows(where) {
		i.where = "the statement changes a table without a WHERE that compares a column"
	}
}

// table checks a table's name. A name without a schema means the WITH query of
// that name where there is one in scope; only the target of a change never does.
func (i *inspection) table(r *tree.RangeVar, target bool) {
	if !target && r.GetCatalogname() == "" && r.GetSchemaname() == "" && slices.Contains(i.ctes, r.GetRelname()) {
		return
	}
	if !i.rules.matchTable(r.GetCatalogname(), r.GetSchemaname(), r.GetRelname()) {
		i.refuse("table " + Quote(qualified(r.GetCatalogname(), r.GetSchemaname(), r.GetRelname())) + " is not among " + Among(i.rules.tables))
	}
}

func (i *inspection) function(parts []string) {
	if !i.rules.allowsFunction(parts) {
		i.refuse("function " + Quote(strings.Join(parts, ".")) + " is not among the allowed ones")
	}
}

// limit checks that a select says itself how many rows it returns at most.
func (i *inspection) limit(s *tree.SelectStmt) {
	most := itoa(i.rules.limit)
	count := s.GetLimitCount()
	c := count.GetAConst()
	switch {
	case count == nil || c.GetIsnull():
		i.refuse("the statement has no LIMIT of at most " + most)
	case s.GetLimitOption() == tree.LimitOption_LIMIT_OPTION_WITH_TIES:
		i.refuse("the statement's limit WITH TIES has no upper bound")
	case c == nil || c.GetVal() == nil:
		i.refuse("the statement's LIMIT is not a plain number of at most " + most)
	default:
		v, ok := c.GetVal().(*tree.A_Const_Ival)
		if !ok || v.Ival.GetIval() < 0 {
			i.refuse("the statement's LIMIT is not a plain number of at most " + most)
		} else if int(v.Ival.GetIval()) > i.rules.limit {
			i.refuse("the statement's LIMIT is above " + most)
		}
	}
}

// rowsInOne refuses, where rows are limited, what puts many rows into one value.
func (i *inspection) rowsInOne(m protoreflect.Message) {
	if i.rules.limit < 0 {
		return
	}
	switch n := m.Interface().(type) {
	case *tree.SubLink:
		if n.GetSubLinkType() == tree.SubLinkType_ARRAY_SUBLINK {
			i.refuse("ARRAY(SELECT ...) puts many rows into one")
		}
	case *tree.JsonArrayAgg, *tree.JsonObjectAgg, *tree.JsonArrayQueryConstructor:
		i.refuse("a JSON aggregate puts many rows into one")
	}
}
