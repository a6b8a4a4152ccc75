package argument

import "strings"

// harmless holds the functions of PostgreSQL that compute a value from their
// arguments: they read no table and no file, change nothing, call nothing by
// name, do not wait and cannot be made to fill the memory. Everything else has to
// be listed by the policy: what a database's own functions do is not known here,
// and pg_read_file, lo_import, dblink, query_to_xml, set_config, nextval,
// pg_sleep and their like are why this is a list of what is allowed. Left out
// although they only compute: generate_series, repeat, lpad and rpad, which make
// a small statement big.
var harmless = set(`
	count sum avg min max every bool_and bool_or bit_and bit_or bit_xor any_value
	stddev stddev_pop stddev_samp variance var_pop var_samp corr covar_pop covar_samp
	regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy
	mode percentile_cont percentile_disc
	row_number rank dense_rank percent_rank cume_dist ntile lag lead first_value last_value nth_value
	array_agg string_agg json_agg jsonb_agg json_object_agg jsonb_object_agg xmlagg range_agg range_intersect_agg
	abs ceil ceiling floor round trunc sign sqrt cbrt exp ln log log10 power pow mod div gcd lcm factorial
	degrees radians pi sin cos tan cot asin acos atan atan2 sinh cosh tanh asinh acosh atanh
	width_bucket scale min_scale trim_scale numeric greatest least
	lower upper initcap length char_length character_length octet_length bit_length
	trim btrim ltrim rtrim left right substr substring overlay position strpos split_part starts_with
	replace translate reverse concat concat_ws format chr ascii md5 sha224 sha256 sha384 sha512
	to_hex to_bin to_oct encode decode quote_ident quote_literal quote_nullable normalize is_normalized unistr
	regexp_count regexp_instr regexp_like regexp_match regexp_matches regexp_replace regexp_split_to_array
	regexp_split_to_table regexp_substr string_to_array string_to_table like_escape
	similar_to_escape similar_escape
	coalesce nullif num_nulls num_nonnulls
	now current_date current_time current_timestamp localtime localtimestamp
	statement_timestamp transaction_timestamp clock_timestamp timeofday
	date_part date_trunc date_bin extract age make_date make_time make_timestamp make_timestamptz make_interval
	justify_days justify_hours justify_interval isfinite overlaps timezone
	to_char to_date to_number to_timestamp date date_add date_subtract
	array_length array_lower array_upper array_ndims array_dims cardinality array_position array_positions
	array_append array_prepend array_cat array_remove array_replace array_to_string array_sort array_reverse
	trim_array unnest
	to_json to_jsonb row_to_json array_to_json json_build_array json_build_object jsonb_build_array jsonb_build_object
	json_object jsonb_object json_array_length jsonb_array_length json_typeof jsonb_typeof
	json_extract_path json_extract_path_text jsonb_extract_path jsonb_extract_path_text
	json_array_elements json_array_elements_text jsonb_array_elements jsonb_array_elements_text
	json_each json_each_text jsonb_each jsonb_each_text json_object_keys jsonb_object_keys
	json_strip_nulls jsonb_strip_nulls jsonb_set jsonb_insert jsonb_pretty
	jsonb_path_exists jsonb_path_match jsonb_path_query jsonb_path_query_array jsonb_path_query_first
	isempty lower_inc upper_inc lower_inf upper_inf range_merge
	int4range int8range numrange tsrange tstzrange daterange
	to_tsvector to_tsquery plainto_tsquery phraseto_tsquery websearch_to_tsquery ts_rank ts_rank_cd
	ts_headline numnode querytree strip setweight tsvector_to_array
	similarity word_similarity levenshtein soundex
	host text masklen netmask network family abbrev broadcast
	uuid_extract_timestamp uuid_extract_version hashtext
	pg_typeof pg_column_size
`)

// gathering holds the harmless functions that put the values of many rows into
// one: with a limit on rows they would be a way around it.
var gathering = set(`array_agg string_agg json_agg jsonb_agg json_object_agg jsonb_object_agg xmlagg range_agg`)

func set(words string) map[string]bool {
	m := map[string]bool{}
	for w := range strings.FieldsSeq(words) {
		m[w] = true
	}
	return m
}
