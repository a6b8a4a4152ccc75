package argument_test

import (
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"strings"
	"sync"
	"testing"

	"github.com/guardbook/guardbook/policy/argument"
)

// check returns why a JSON value is refused.
func check(t testing.TB, typ argument.Type, value any) string {
	t.Helper()
	b, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return typ.Check(context.Background(), "arg", jsontext.Value(b))
}

func newSQL(t testing.TB, o argument.SQLOptions) *argument.SQL {
	t.Helper()
	o.Dialect = "postgres"
	s, problems := argument.NewSQL(o)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return s
}

func ptr[T any](v T) *T { return &v }

// sqlCases are statements with the reason for which they are refused; "" is allowed.
type sqlCases []struct{ sql, want string }

func (cases sqlCases) run(t *testing.T, o argument.SQLOptions) {
	t.Helper()
	s := newSQL(t, o)
	for _, c := range cases {
		got := check(t, s, c.sql)
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s\n got: %q\nwant: %q", c.sql, got, c.want)
		}
	}
}

func TestSQLReadsOnlyTheTablesThatAreListed(t *testing.T) {
	const users = `table "users" is not among products, orders`
	sqlCases{
		{`SELECT * FROM products`, ""},
		{`select * from PRODUCTS`, ""}, // PostgreSQL folds what is not quoted
		{`SELECT * FROM "products"`, ""},
		{`SELECT * FROM "Products"`, `table "Products" is not among`},
		{`SELECT p.id FROM products p JOIN orders o ON o.pid = p.id`, ""},
		{`TABLE products`, ""},
		{`VALUES (1)`, ""},
		{`SELECT 1`, ""},
		{`SELECT * FROM ONLY products`, ""},
		{`SELECT * FROM products TABLESAMPLE system (1)`, ""},
		{`SELECT * FROM products TABLESAMPLE evil.method (1)`, "sampling method"},

		{`SELECT * FROM users`, users},
		{`SELECT * FROM USERS`, users},
		{`SELECT * FROM U&"\0075sers"`, users},
		{"SELECT * FROM/**/users", users},
		{"SELECT * FROM products -- \n, users", users},
		{`SELECT * FROM products, users`, users},
		{`SELECT * FROM products CROSS JOIN users`, users},
		{`SELECT * FROM (products p JOIN users u ON true)`, users},
		{`SELECT * FROM products p, LATERAL (SELECT * FROM users) u`, users},
		{`SELECT (SELECT name FROM users LIMIT 1) FROM products`, users},
		{`SELECT * FROM products WHERE id IN (SELECT id FROM users)`, users},
		{`SELECT * FROM products WHERE EXISTS (SELECT FROM users)`, users},
		{`SELECT * FROM products ORDER BY (SELECT max(id) FROM users)`, users},
		{`SELECT * FROM products LIMIT (SELECT count(*) FROM users)`, users},
		{`SELECT * FROM products OFFSET (SELECT count(*) FROM users)`, users},
		{`SELECT * FROM products GROUP BY id HAVING count(*) > (SELECT count(*) FROM users)`, users},
		{`SELECT count(*) FILTER (WHERE (SELECT true FROM users)) FROM products`, users},
		{`SELECT sum(id) OVER (PARTITION BY (SELECT id FROM users)) FROM products`, users},
		{`SELECT sum(id) OVER w FROM products WINDOW w AS (ORDER BY (SELECT id FROM users))`, users},
		{`SELECT CASE WHEN true THEN (SELECT name FROM users) END`, users},
		{`SELECT ARRAY(SELECT name FROM users)`, users},
		{`SELECT DISTINCT ON ((SELECT id FROM users)) id FROM products`, users},
		{`VALUES ((SELECT name FROM users))`, users},
		{`TABLE users`, users},
		{`SELECT * FROM products UNION SELECT * FROM users`, users},
		{`SELECT * FROM products EXCEPT ALL (SELECT * FROM users)`, users},
		{`SELECT * FROM json_table('[]', '$[*]' COLUMNS (a int PATH '$')) j, users`, users},
		{`SELECT xmlelement(name a, (SELECT name FROM users))`, users},
		{`SELECT JSON_ARRAY(SELECT name FROM users)`, users},

		{`SELECT * FROM public.products`, `table "public.products" is not among`},
		{`SELECT * FROM other.products`, `table "other.products" is not among`},
		{`SELECT * FROM db.public.products`, `table "db.public.products" is not among`},
		{`SELECT * FROM pg_catalog.pg_shadow`, `table "pg_catalog.pg_shadow" is not among`},
		{`SELECT * FROM pg_shadow`, `table "pg_shadow" is not among`},
		{`SELECT * FROM information_schema.tables`, `table "information_schema.tables" is not among`},
	}.run(t, argument.SQLOptions{Statements: []string{"select"}, Tables: []string{"products", "orders"}})
}

func TestSQLKnowsWhichNamesAreWithQueries(t *testing.T) {
	const users = `table "users" is not among`
	sqlCases{
		{`WITH recent AS (SELECT * FROM orders) SELECT * FROM recent`, ""},
		{`WITH a AS (SELECT * FROM orders), b AS (SELECT * FROM a) SELECT * FROM b`, ""},
		{`WITH RECURSIVE r AS (SELECT 1 UNION ALL SELECT * FROM r) SELECT * FROM r`, ""},
		{`WITH users AS (SELECT * FROM orders) SELECT * FROM users`, ""}, // the name of the query hides the table
		{`SELECT * FROM (WITH x AS (SELECT * FROM orders) SELECT * FROM x) y`, ""},
		{`WITH x AS (SELECT * FROM orders) SELECT * FROM orders WHERE id IN (SELECT id FROM x)`, ""},

		{`WITH users AS (SELECT * FROM users) SELECT * FROM users`, users}, // without RECURSIVE it reads the table
		{`WITH a AS (SELECT * FROM users), users AS (SELECT 1) SELECT * FROM a`, users},
		{`WITH users AS (SELECT 1) SELECT * FROM public.users`, `table "public.users" is not among`},
		{`SELECT * FROM (WITH users AS (SELECT 1) SELECT * FROM users) x, users`, users},
		{`WITH x AS (SELECT 1) SELECT * FROM orders UNION (WITH users AS (SELECT 1) SELECT * FROM users) UNION SELECT * FROM users`, users},
		{`WITH a AS (WITH users AS (SELECT 1) SELECT * FROM users) SELECT * FROM users`, users},
		{`WITH RECURSIVE a AS (SELECT * FROM users) SELECT * FROM a`, users},
		{`WITH x AS (SELECT * FROM users) SELECT 1`, users},
	}.run(t, argument.SQLOptions{Statements: []string{"select"}, Tables: []string{"orders"}})

	sqlCases{
		// The target of a change is always a table, whatever WITH calls so.
		{`WITH users AS (SELECT 1) INSERT INTO users VALUES (1)`, users},
		{`WITH users AS (SELECT 1) UPDATE users SET a = 1`, users},
		{`WITH users AS (SELECT 1) DELETE FROM users`, users},
		{`WITH users AS (SELECT 1) MERGE INTO users u USING orders o ON o.id = u.id WHEN MATCHED THEN DELETE`, users},
		{`WITH x AS (SELECT 1 AS id) DELETE FROM orders USING x WHERE orders.id = x.id`, ""},
		{`WITH x AS (DELETE FROM users RETURNING *) SELECT * FROM x`, users},
	}.run(t, argument.SQLOptions{Statements: argument.SQLStatements(), Tables: []string{"orders"}})
}

func TestSQLAllowsOnlyTheStatementsThatAreListed(t *testing.T) {
	sqlCases{
		{`SELECT * FROM t`, ""},
		{`(SELECT * FROM t)`, ""},
		{`SELECT * FROM t;`, ""},
		{`; SELECT * FROM t`, ""},
		{`INSERT INTO t VALUES (1)`, `statement "insert" is not among select`},
		{`UPDATE t SET a = 1`, `statement "update" is not among select`},
		{`DELETE FROM t`, `statement "delete" is not among select`},
		{`MERGE INTO t USING t s ON true WHEN MATCHED THEN DELETE`, `statement "merge" is not among select`},
		{`TRUNCATE t`, `statement "truncate" is not among select`},
		{`DROP TABLE t`, `statement "drop" is not among select`},
		{`CREATE TABLE x AS SELECT * FROM t`, `is not among select`},
		{`ALTER TABLE t ADD x int`, `is not among select`},
		{`COPY t TO PROGRAM 'curl x'`, `statement "copy" is not among select`},
		{`COPY (SELECT * FROM t) TO '/tmp/x'`, `statement "copy" is not among select`},
		{`EXPLAIN ANALYZE DELETE FROM t`, `statement "explain" is not among select`},
		{`DO $$ BEGIN DELETE FROM t; END $$`, `statement "do" is not among select`},
		{`CALL p()`, `statement "call" is not among select`},
		{`SET ROLE postgres`, `is not among select`},
		{`PREPARE x AS DELETE FROM t`, `is not among select`},
		{`EXECUTE x`, `is not among select`},
		{`DECLARE c CURSOR FOR SELECT * FROM t`, `is not among select`},
		{`BEGIN`, `is not among select`},
		{`LOCK TABLE t`, `is not among select`},
		{`GRANT ALL ON t TO public`, `is not among select`},
		{`NOTIFY x`, `is not among select`},
		{`REFRESH MATERIALIZED VIEW t`, `is not among select`},
		{`VACUUM t`, `is not among select`},

		{`SELECT 1; SELECT 2`, "more than one SQL statement"},
		{`SELECT 1;; DROP TABLE t`, "more than one SQL statement"},
		{"SELECT 1 /* ; */; DELETE FROM t --", "more than one SQL statement"},
		{``, "holds no SQL statement"},
		{`   `, "holds no SQL statement"},
		{`;`, "holds no SQL statement"},
		{`-- nothing`, "holds no SQL statement"},
		{"SELECT 1\x00; DROP TABLE t", "NUL"},
		{`SELEC 1`, `cannot be read as a PostgreSQL statement: syntax error at or near "SELEC"`},
		{`SELECT 'unterminated`, "cannot be read"},
		{`SELECT * FROM t WHERE a = "x`, "cannot be read"},
		{"SELECT * FROM `t`", "cannot be read"}, // MySQL's quotes
		{`SELECT /* unterminated`, "cannot be read"},

		{`SELECT * INTO x FROM t`, "SELECT INTO"},
		{`SELECT * INTO x FROM t UNION SELECT * FROM t`, "SELECT INTO"},
		{`SELECT * FROM t FOR UPDATE`, "changes or locks rows"},
		{`SELECT * FROM t FOR KEY SHARE SKIP LOCKED`, "changes or locks rows"},
		{`SELECT * FROM (SELECT * FROM t FOR SHARE) x`, "changes or locks rows"},
		{`WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x`, "as DELETE does"},
		{`WITH x AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM x`, "as INSERT does"},
		{`WITH x AS (UPDATE t SET a = 1 RETURNING *) SELECT * FROM x`, "as UPDATE does"},
		{`SELECT * FROM t WHERE a IN (WITH x AS (DELETE FROM t RETURNING a) SELECT a FROM x)`, "as DELETE does"},
	}.run(t, argument.SQLOptions{Statements: []string{"select"}, Tables: []string{"t"}})

	sqlCases{
		{`INSERT INTO t (a) VALUES (1)`, ""},
		{`INSERT INTO t SELECT * FROM t`, ""},
		{`INSERT INTO t VALUES (1) RETURNING a`, ""},
		{`INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING`, ""},
		{`INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 2`, "as UPDATE does"},
		{`INSERT INTO t SELECT * FROM users`, `table "users"`},
		{`INSERT INTO t VALUES (1) RETURNING (SELECT name FROM users)`, `table "users"`},
		{`SELECT * FROM t`, `statement "select" is not among insert`},
		{`WITH x AS (DELETE FROM t RETURNING *) INSERT INTO t SELECT * FROM x`, "as DELETE does"},
	}.run(t, argument.SQLOptions{Statements: []string{"insert"}, Tables: []string{"t"}})
}

func TestSQLCallsOnlyHarmlessFunctions(t *testing.T) {
	sqlCases{
		{`SELECT count(*), sum(a), lower(b), now(), current_date, coalesce(a, 1) FROM t`, ""},
		{`SELECT pg_catalog.lower(b) FROM t`, ""},
		{`SELECT extract(year FROM a), date_trunc('day', a), a::date, trim(b), position('x' IN b), substring(b FROM 1 FOR 2) FROM t`, ""},
		{`SELECT b LIKE 'x%', b ILIKE 'x', b SIMILAR TO 'x', a BETWEEN 1 AND 2, a AT TIME ZONE 'utc', b COLLATE "C" FROM t`, ""},
		{`SELECT row_number() OVER (PARTITION BY a ORDER BY b) FROM t`, ""},
		{`SELECT * FROM unnest(ARRAY[1,2]) x`, ""},
		{`SELECT our_own(1)`, ""},
		{`SELECT billing.total(1)`, ""},

		{`SELECT pg_sleep(10)`, `function "pg_sleep" is not among the allowed ones`},
		{`SELECT PG_SLEEP(10)`, `function "pg_sleep"`},
		{`SELECT pg_catalog.pg_sleep(10)`, `function "pg_catalog.pg_sleep"`},
		{`SELECT "pg_sleep"(10)`, `function "pg_sleep"`},
		{`SELECT pg_read_file('/etc/passwd')`, `function "pg_read_file"`},
		{`SELECT * FROM pg_read_file('/etc/passwd')`, `function "pg_read_file"`},
		{`SELECT * FROM pg_ls_dir('/') x`, `function "pg_ls_dir"`},
		{`SELECT * FROM ROWS FROM (lower('a'), pg_ls_dir('/')) x`, `function "pg_ls_dir"`},
		{`SELECT * FROM t, LATERAL pg_stat_file(b)`, `function "pg_stat_file"`},
		{`SELECT lo_import('/etc/passwd')`, `function "lo_import"`},
		{`SELECT * FROM dblink('host=evil', 'SELECT 1') AS x(a int)`, `function "dblink"`},
		{`SELECT query_to_xml('SELECT * FROM users', true, true, '')`, `function "query_to_xml"`},
		{`SELECT table_to_xml('users'::regclass, true, true, '')`, `function "table_to_xml"`},
		{`SELECT ts_stat('SELECT vector FROM users')`, `function "ts_stat"`},
		{`SELECT ts_rewrite('a'::tsquery, 'SELECT t, s FROM users')`, `function "ts_rewrite"`},
		{`SELECT set_config('role', 'postgres', false)`, `function "set_config"`},
		{`SELECT current_setting('data_directory')`, `function "current_setting"`},
		{`SELECT nextval('s')`, `function "nextval"`},
		{`SELECT pg_terminate_backend(1)`, `function "pg_terminate_backend"`},
		{`SELECT pg_advisory_lock(1)`, `function "pg_advisory_lock"`},
		{`SELECT pg_reload_conf()`, `function "pg_reload_conf"`},
		{`SELECT generate_series(1, 1000000000)`, `function "generate_series"`},
		{`SELECT repeat('x', 1000000000)`, `function "repeat"`},
		{`SELECT delete_customer(1)`, `function "delete_customer"`},
		{`SELECT other.our_own(1)`, `function "other.our_own"`},
		{`SELECT evil.lower('x')`, `function "evil.lower"`},
		{`SELECT password(t) FROM t`, `function "password"`}, // a column in functional notation
		{`SELECT 1 OPERATOR(evil.+) 2`, `operator "evil.+"`},
		{`SELECT 1 OPERATOR(pg_catalog.+) 2`, ""},
		{`SELECT * FROM t WHERE a = (SELECT pg_sleep(1)::text::int)`, `function "pg_sleep"`},
		{`SELECT * FROM t ORDER BY pg_sleep(1)`, `function "pg_sleep"`},
		{`SELECT max(pg_sleep(1)::text) FILTER (WHERE true) OVER () FROM t`, `function "pg_sleep"`},
		{`VALUES (pg_sleep(1))`, `function "pg_sleep"`},
	}.run(t, argument.SQLOptions{Statements: []string{"select"}, Tables: []string{"t"}, Functions: []string{"our_own", "billing.total"}})
}

func TestSQLRequiresAWhereThatLeavesSomethingOut(t *testing.T) {
	const missing = "without a WHERE that compares a column"
	sqlCases{
		{`SELECT * FROM t WHERE id = 1`, ""},
		{`SELECT * FROM t WHERE id = $1`, ""},
		{`SELECT * FROM t WHERE id IN (1, 2)`, ""},
		{`SELECT * FROM t WHERE name LIKE 'a%' OR id < 7`, ""},
		{`SELECT * FROM t WHERE true AND id = 1`, ""},
		{`SELECT * FROM t WHERE deleted`, ""},
		{`SELECT * FROM t WHERE deleted_at IS NULL`, ""},
		{`SELECT * FROM t WHERE NOT deleted`, ""},
		{`SELECT * FROM t a JOIN t b ON a.id = b.id WHERE a.id = 4`, ""},
		{`WITH x AS (SELECT * FROM t WHERE id = 1) SELECT * FROM x`, ""},
		{`SELECT * FROM (SELECT * FROM t WHERE id = 1) x`, ""},
		{`SELECT 1`, ""},
		{`DELETE FROM t WHERE id = 1`, ""},
		{`UPDATE t SET a = 1 WHERE id = 1`, ""},
		{`INSERT INTO t VALUES (1)`, ""},

		{`SELECT * FROM t`, missing},
		{`TABLE t`, missing},
		{`SELECT * FROM t WHERE true`, missing},
		{`SELECT * FROM t WHERE 1 = 1`, missing},
		{`SELECT * FROM t WHERE 'a' = 'a'`, missing},
		{`SELECT * FROM t WHERE $1`, missing},
		{`SELECT * FROM t WHERE id = id`, missing},
		{`SELECT * FROM t WHERE t.id >= t.id`, missing},
		{`SELECT * FROM t WHERE id = 1 OR true`, missing},
		{`SELECT * FROM t WHERE id = 1 OR 1 = 1`, missing},
		{`SELECT * FROM t WHERE (id = 1 OR 2 > 1) AND true`, missing},
		{`SELECT * FROM t WHERE EXISTS (SELECT 1)`, missing},
		{`SELECT * FROM t WHERE NOT false`, missing},
		{`SELECT * FROM t a JOIN t b ON a.id = b.id`, missing},
		{`SELECT * FROM (SELECT * FROM t) x WHERE id = 1`, missing},
		{`WITH x AS (SELECT * FROM t) SELECT * FROM x WHERE id = 1`, missing},
		{`SELECT * FROM t WHERE id = 1 UNION SELECT * FROM t`, missing},
		{`SELECT (SELECT max(id) FROM t) FROM t WHERE id = 1`, missing},
		{`DELETE FROM t`, missing},
		{`DELETE FROM t WHERE true`, missing},
		{`UPDATE t SET a = 1`, missing},
		{`UPDATE t SET a = 1 WHERE a = a`, missing},
		{`INSERT INTO t SELECT * FROM t`, missing},
		{`WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x`, missing},
		{`MERGE INTO t USING t s ON true WHEN MATCHED THEN DELETE`, missing},
		// What is worse is told first.
		{`SELECT * FROM users`, `table "users" is not among t`},
	}.run(t, argument.SQLOptions{Statements: argument.SQLStatements(), Tables: []string{"t"}, RequireWhere: true})
}

func TestSQLRequiresALimitThatIsAPlainNumber(t *testing.T) {
	const plain = "LIMIT is not a plain number"
	sqlCases{
		{`SELECT * FROM t LIMIT 500`, ""},
		{`SELECT * FROM t LIMIT 0`, ""},
		{`SELECT * FROM t FETCH FIRST 10 ROWS ONLY`, ""},
		{`SELECT * FROM t FETCH FIRST ROW ONLY`, ""},
		{`SELECT * FROM t OFFSET 9 LIMIT 5`, ""},
		{`SELECT * FROM t UNION SELECT * FROM t LIMIT 5`, ""},
		{`WITH x AS (SELECT * FROM t) SELECT * FROM x LIMIT 5`, ""},

		{`SELECT * FROM t`, "no LIMIT of at most 500"},
		{`SELECT * FROM t LIMIT ALL`, "no LIMIT of at most 500"},
		{`SELECT * FROM t LIMIT NULL`, "no LIMIT of at most 500"},
		{`SELECT * FROM t LIMIT 501`, "LIMIT is above 500"},
		{`SELECT * FROM t LIMIT 99999999999999`, plain},
		{`SELECT * FROM t LIMIT -1`, plain},
		{`SELECT * FROM t LIMIT 5 + 5`, plain},
		{`SELECT * FROM t LIMIT '5'`, plain},
		{`SELECT * FROM t LIMIT 5::int`, plain},
		{`SELECT * FROM t LIMIT 1.5`, plain},
		{`SELECT * FROM t LIMIT $1`, plain},
		{`SELECT * FROM t LIMIT (SELECT 5)`, plain},
		{`SELECT * FROM t ORDER BY a FETCH FIRST 10 ROWS WITH TIES`, "WITH TIES"},
		{`SELECT * FROM (SELECT * FROM t LIMIT 5) x`, "no LIMIT"},
		{`SELECT * FROM t UNION (SELECT * FROM t LIMIT 5)`, "no LIMIT"},

		{`SELECT json_agg(t) FROM t LIMIT 1`, `function "json_agg"`},
		{`SELECT string_agg(a, ',') FROM t LIMIT 1`, `function "string_agg"`},
		{`SELECT ARRAY(SELECT a FROM t) LIMIT 1`, "many rows into one"},
		{`SELECT JSON_ARRAYAGG(a) FROM t LIMIT 1`, "many rows into one"},
		{`SELECT JSON_ARRAY(SELECT a FROM t) LIMIT 1`, "many rows into one"},
		{`SELECT count(*) FROM t LIMIT 1`, ""},
	}.run(t, argument.SQLOptions{Statements: []string{"select"}, Tables: []string{"t"}, MaxLimit: ptr(500)})
}

func TestSQLReadsOnlyTheColumnsThatAreListed(t *testing.T) {
	const ssn = `column "ssn" is not among id, name, total`
	const star = `"*" reads every column`
	const whole = "names a table or an alias, which reads every column"
	sqlCases{
		{`SELECT id, p.name FROM people p WHERE p.total > 3 ORDER BY id`, ""},
		{`SELECT count(*) FROM people`, ""},
		{`SELECT id AS ssn FROM people`, ""}, // another name for what is allowed
		{`SELECT p.id FROM people p JOIN orders o USING (id)`, ""},
		{`UPDATE people SET name = 'x' WHERE id = 1`, ""},
		{`INSERT INTO people (id, name) VALUES (1, 'x')`, ""},

		{`SELECT ssn FROM people`, ssn},
		{`SELECT SSN FROM people`, ssn},
		{`SELECT people.ssn FROM people`, ssn},
		{`SELECT id FROM people WHERE ssn = '1'`, ssn},
		{`SELECT id FROM people ORDER BY ssn`, ssn},
		{`SELECT id FROM people GROUP BY id, ssn`, ssn},
		{`SELECT count(ssn) FROM people`, ssn},
		{`SELECT (p).ssn FROM people p`, ssn},
		{`SELECT (p).id FROM people p`, whole},
		{`SELECT 1 AS ssn UNION SELECT ssn FROM people`, ssn},
		{`SELECT id FROM people p JOIN orders o USING (ssn)`, ssn},
		{`SELECT id FROM people NATURAL JOIN orders`, "NATURAL JOIN"},
		{`SELECT * FROM people`, star},
		{`SELECT p.* FROM people p`, star},
		{`TABLE people`, star},
		{`SELECT people FROM people`, whole},
		{`SELECT p FROM people p`, whole},
		{`SELECT to_json(p) FROM people p`, whole},
		{`SELECT row_to_json(people) FROM people`, whole},
		{`SELECT total FROM people AS total`, whole}, // an alias that looks like a column
		{`SELECT name FROM people, (SELECT 1) AS name`, whole},
		{`SELECT a FROM people AS p(a, b)`, `column "a"`},
		{`SELECT id FROM people AS p(x, id)`, "hides which columns"},
		{`WITH x(id) AS (SELECT 1) SELECT id FROM x`, "hides which columns"},
		{`UPDATE people SET ssn = 'x' WHERE id = 1`, ssn},
		{`UPDATE people SET name = ssn WHERE id = 1`, ssn},
		{`INSERT INTO people VALUES (1)`, "has to name its columns"},
		{`INSERT INTO people (ssn) VALUES (1)`, ssn},
		{`INSERT INTO people (id) VALUES (1) ON CONFLICT (ssn) DO NOTHING`, ssn},
		{`INSERT INTO people (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET ssn = 1`, ssn},
		{`INSERT INTO people (id) VALUES (1) RETURNING ssn`, ssn},
		{`DELETE FROM people WHERE id = 1 RETURNING *`, star},
		{`MERGE INTO people p USING orders o ON o.id = p.id WHEN MATCHED THEN UPDATE SET ssn = 1`, ssn},
	}.run(t, argument.SQLOptions{Statements: argument.SQLStatements(), Tables: []string{"people", "orders"}, Columns: []string{"id", "name", "total"}})
}

func TestSQLTablePatternsStayInTheirSchemaAndOffTheSystem(t *testing.T) {
	sqlCases{
		{`SELECT * FROM sales.orders`, ""},
		{`SELECT * FROM sales.items`, ""},
		{`SELECT * FROM rep_daily`, ""},
		{`SELECT * FROM orders`, `table "orders" is not among`},
		{`SELECT * FROM other.rep_daily`, "is not among"},
		{`SELECT * FROM db.sales.orders`, "is not among"},
	}.run(t, argument.SQLOptions{Statements: []string{"select"}, Tables: []string{"sales.*", "rep_*"}})

	sqlCases{
		{`SELECT * FROM anything`, ""},
		{`SELECT * FROM a.b`, ""},
		{`SELECT * FROM pg_shadow`, "is not among"},
		{`SELECT * FROM pg_catalog.pg_class`, "is not among"},
		{`SELECT * FROM pg_temp.x`, "is not among"},
		{`SELECT * FROM information_schema.columns`, "is not among"},
		{`SELECT * FROM pg_stat_activity`, ""}, // listed by its own name
	}.run(t, argument.SQLOptions{Statements: []string{"select"}, Tables: []string{"*", "*.*", "pg_stat_activity"}})
}

func TestSQLIsTextOfABoundedLength(t *testing.T) {
	s := newSQL(t, argument.SQLOptions{Statements: []string{"select"}, Tables: []string{"t"}})
	for name, c := range map[string]struct {
		value any
		want  string
	}{
		"number":  {1, "is not a string"},
		"null":    {nil, "is not a string"},
		"list":    {[]string{"SELECT 1"}, "is not a string"},
		"object":  {map[string]string{"sql": "SELECT 1"}, "is not a string"},
		"long":    {"SELECT 1" + strings.Repeat(" ", 70<<10), "longer than 64 KiB"},
		"many":    {"SELECT a FROM t WHERE a IN (1" + strings.Repeat(",1", 20000) + ")", ""},
		"chained": {"SELECT a" + strings.Repeat("+a", 3000), "too many nested"},
	} {
		if got := check(t, s, c.value); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

// Every shape of nesting, as deep as the bound lets through, must leave the parser
// sound: a stack overflow in it would break the instance for later statements.
func TestSQLThatNestsDeepDoesNotHarmTheParser(t *testing.T) {
	s := newSQL(t, argument.SQLOptions{Statements: []string{"select"}, Tables: []string{"a"}})
	shapes := map[string]struct{ head, open, middle, shut string }{
		"sum":       {"SELECT ", "x+", "x", ""},
		"constants": {"SELECT ", "1+", "1", ""},
		"signs":     {"SELECT ", "+", "x", ""},
		"not":       {"SELECT ", "not ", "x", ""},
		"calls":     {"SELECT ", "f(", "1", ")"},
		"brackets":  {"SELECT ", "(", "1", ")"},
		"subselect": {"SELECT ", "(select ", "1", ")"},
		"from":      {"SELECT ", "from (select ", "1", ")"},
		"lateral":   {"SELECT ", "from lateral (select ", "1", ") a"},
		"casts":     {"SELECT 1", "::a", "", ""},
		"arrays":    {"SELECT array", "[", "1", "]"},
		"subscript": {"SELECT a", "[1]", "", ""},
		"fields":    {"SELECT a", ".a", "", ""},
		"union":     {"", "select union ", "select", ""},
		"joins":     {"SELECT FROM a", " cross join a", "", ""},
		"collate":   {"SELECT a", " collate a", "", ""},
		"case":      {"SELECT ", "case when ", "1", " then 1 end"},
		"rows":      {"SELECT ", "(1,", "1", ")"},
		"with":      {"", "with a as (", "select 1", ") select 1"},
		"null":      {"SELECT ", "(", "1", " isnull)"},
		"in":        {"SELECT ", "1 in (select ", "1", ")"},
		"exists":    {"SELECT ", "exists(select ", "1", ")"},
		"between":   {"SELECT ", "1 between 1 and ", "1", ""},
		"xml":       {"SELECT ", "xmlelement(name a,", "1", ")"},
		"window":    {"SELECT ", "a(1) over(order by ", "1", ")"},
		"json":      {"SELECT ", "json_array(", "1", ")"},
		"at zone":   {"SELECT 1", " at time zone 'a'", "", ""},
		"and or":    {"SELECT 1", " and 1 or 1", "", ""},
		"quote":     {"SELECT ", `"a".`, `a`, ""},
		"insert":    {"", "with a as (insert into a ", "select 1", ") select 1"},
	}
	for name, shape := range shapes {
		for _, n := range []int{390, 590, 1190, 5000} {
			sql := shape.head + strings.Repeat(shape.open, n) + shape.middle + strings.Repeat(shape.shut, n)
			if got := check(t, s, sql); strings.Contains(got, "out of use") {
				t.Fatalf("%s, %d levels: %s", name, n, got)
			}
		}
		if got := check(t, s, "SELECT a FROM a WHERE a = 1"); got != "" {
			t.Fatalf("after %s the parser says: %s", name, got)
		}
	}
}

func TestSQLIsCheckedByManyAtOnce(t *testing.T) {
	s := newSQL(t, argument.SQLOptions{Statements: []string{"select"}, Tables: []string{"t"}})
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for range 20 {
				if got := check(t, s, "SELECT a FROM t WHERE a = 1"); got != "" {
					t.Error(got)
				}
				if got := check(t, s, "SELECT a FROM users"); i%2 == 0 && !strings.Contains(got, `"users"`) {
					t.Error(got)
				}
			}
		})
	}
	wg.Wait()
}

func TestSQLObeysTheContext(t *testing.T) {
	s := newSQL(t, argument.SQLOptions{Statements: []string{"select"}, Tables: []string{"t"}})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	// Whether it was parsed before anybody looked at the context or not: a refusal
	// may never come out as allowed.
	for range 50 {
		if got := s.Check(ctx, "arg", jsontext.Value(`"SELECT * FROM users"`)); got == "" {
			t.Fatal("allowed")
		}
	}
}

func TestSQLOptionsAreChecked(t *testing.T) {
	_, problems := argument.NewSQL(argument.SQLOptions{Dialect: "mysql", Statements: []string{"select", "drop"}, Tables: []string{"a", "b..c", `"x"`, "a.b.c.d"}})
	var got []string
	for _, p := range problems {
		got = append(got, p.Field+": "+p.Message)
	}
	for _, want := range []string{`dialect: unknown dialect "mysql": allowed: postgres`, `statements: unknown statement "drop"`, `bad table "b..c"`, `bad table "\"x\""`, `bad table "a.b.c.d"`} {
		if !strings.Contains(strings.Join(got, "\n"), want) {
			t.Errorf("no %q in\n%s", want, strings.Join(got, "\n"))
		}
	}
}

func FuzzSQL(f *testing.F) {
	f.Add("SELECT * FROM t WHERE id = 1 LIMIT 5")
	f.Add("WITH t AS (SELECT * FROM u) SELECT * FROM t")
	f.Add("INSERT INTO t (a) VALUES ('x') ON CONFLICT DO NOTHING")
	s := newSQL(f, argument.SQLOptions{Statements: argument.SQLStatements(), Tables: []string{"t"}, Columns: []string{"a"}, RequireWhere: true, MaxLimit: ptr(5)})
	f.Fuzz(func(t *testing.T, sql string) {
		if got := check(t, s, strings.ToValidUTF8(sql, "")); strings.Contains(got, "out of use") {
			t.Fatal(got)
		}
	})
}

func BenchmarkSQL(b *testing.B) {
	s := newSQL(b, argument.SQLOptions{Statements: []string{"select"}, Tables: []string{"products", "orders"}, RequireWhere: true, MaxLimit: ptr(500)})
	if err := argument.WarmSQL(b.Context()); err != nil {
		b.Fatal(err)
	}
	for name, sql := range map[string]string{
		"short": `"SELECT name FROM products WHERE id = 7 LIMIT 1"`,
		"join":  `"SELECT p.name, count(*) FROM products p JOIN orders o ON o.product_id = p.id WHERE o.customer_id = 4711 AND o.created_at > now() - interval '30 days' GROUP BY p.name ORDER BY 2 DESC LIMIT 10"`,
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if got := s.Check(b.Context(), "query", jsontext.Value(sql)); got != "" {
					b.Fatal(got)
				}
			}
		})
	}
}
