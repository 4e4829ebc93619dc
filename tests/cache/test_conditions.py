"""What the conditions of a statement surely say, and what they only seem to."""

import pytest

from scaling_kit.cache import conditions

SURE = [
    ('SELECT * FROM "t" WHERE "t"."s" = %s', [0]),
    ("SELECT * FROM `t` WHERE `t`.`s` = %s", [0]),
    ("SELECT * FROM t WHERE t.s=%s", [0]),
    ('SELECT %s FROM "t" WHERE ("t"."a" LIKE %s ESCAPE \'\\\' AND "t"."s" = %s)', [2]),
    ('SELECT * FROM "t" WHERE ("t"."a" BETWEEN %s AND %s AND "t"."s" IN (%s, %s))', [2, 3]),
    ('SELECT * FROM "t" AS x WHERE (x."a" = %s OR x."b" IS NULL) AND (x."s" = %s) ORDER BY x."a", x."s" LIMIT 3', [1]),
    ('SELECT * FROM "u" LEFT OUTER JOIN "t" T4 ON ("u"."id" = T4."u") WHERE T4."s" = %s FOR UPDATE', [0]),
    ('SELECT * FROM "t" WHERE "t"."s" = %s UNION ALL SELECT * FROM "t" WHERE "t"."s" = %s', [0, 1]),
    ('SELECT COUNT(*) FROM (SELECT DISTINCT 1 FROM "t" WHERE "t"."s" = %s) sub', [0]),
    ('WITH x AS (SELECT * FROM "t" WHERE "t"."s" = %s) SELECT * FROM x WHERE a = %s OR b = %s', [0]),
    ('SELECT EXTRACT(YEAR FROM "t"."d") FROM "t" WHERE "t"."a" IS DISTINCT FROM "t"."b" AND "t"."s" = %s', [0]),
]
NOT_SURE = [
    'SELECT * FROM "t"',
    'SELECT * FROM "u" WHERE "u"."s" = %s',
    'SELECT * FROM "t" WHERE "t"."s" <> %s',
    'SELECT * FROM "t" WHERE "t"."s" = %s + 1',
    'SELECT * FROM "t" WHERE NOT "t"."s" = %s',
    'SELECT * FROM "t" WHERE NOT ("t"."s" = %s)',
    'SELECT * FROM "t" WHERE "t"."s" = %s OR a = 1',
    'SELECT * FROM "t" WHERE a = 1 OR b = 2 AND "t"."s" = %s',
    'SELECT * FROM "t" WHERE "t"."s" = %s XOR a = 1',
    'SELECT * FROM "t" WHERE ("t"."s" = %s) IS NOT TRUE',
    'SELECT * FROM "t" WHERE a = ("t"."s" = %s)',
    'SELECT * FROM "t" WHERE COALESCE(a, "t"."s" = %s)',
    'SELECT * FROM "t" WHERE CASE WHEN a AND "t"."s" = %s AND b THEN c ELSE d END',
    'SELECT * FROM "t" WHERE a BETWEEN b AND "t"."s" = %s',
    'SELECT * FROM "t" WHERE (SELECT false FROM "u" WHERE a AND "t"."s" = %s)',
    'SELECT * FROM "t" WHERE EXISTS (SELECT 1 FROM "u" WHERE "t"."s" = %s)',
    'SELECT * FROM "t" WHERE a = 1 ORDER BY ("t"."s" = %s AND b)',
    'SELECT * FROM "t" WHERE a = 1 GROUP BY b HAVING "t"."s" = %s',
    'SELECT "t"."s" = %s FROM "t"',
    'SELECT * FROM "u" JOIN "t" ON ("t"."s" = %s)',
    'SELECT * FROM "t", "t" x WHERE "t"."s" = %s',
    'SELECT * FROM "t" x JOIN "u" "t" ON true WHERE "t"."s" = %s',
    'SELECT * FROM "u" AS "t", "t" AS y WHERE "t"."s" = %s',
    'SELECT * FROM "t" WHERE "t"."s" = %s UNION SELECT * FROM "t"',
    'SELECT * FROM "t" WHERE "t"."s" = %s AND a IN (SELECT a FROM "t" U0)',
    'SELECT * FROM public."t" WHERE "t"."s" = %s',
    'SELECT * FROM "t" WHERE "t"."s" = %s -- OR true',
    'SELECT * FROM "t" WHERE "t"."s" = %s /* x */',
    'SELECT * FROM "t" WHERE "t"."s" = %s; DELETE FROM "t"',
    """SELECT * FROM "t" WHERE a = ' AND "t"."s" = %s'""",
    'SELECT * FROM "t" WHERE "t"."s" = %s AND offset = 1 OR a = 2',
    'SELECT * FROM "t" WHERE "t"."s" = %s)',
    'SELECT * FROM "t" WHERE "t"."s" IN (SELECT %s)',
    'SELECT * FROM "t" WHERE "t"."s" = %s AND a ||-b',
    'SELECT * FROM "t" WHERE "t"."a" = $x$ AND "t"."s" = %s AND b = $x$',
    'SELECT * FROM "t" WHERE "t"."s" == %s',
    'SELECT * FROM "t" WHERE "t"."s" >= %s',
    'SELECT * FROM "t" WHERE "t"."s" = -%s',
    'SELECT * FROM "t" (x) WHERE "t"."s" = %s',
    'WITH "t" AS (SELECT 1) SELECT * FROM "t" WHERE "t"."s" = %s',
]


@pytest.mark.parametrize(("sql", "numbers"), SURE)
def test_restricted_wherever_the_table_is_used__its_parameters(sql: str, numbers: list[int]) -> None:
    assert conditions.of_read(sql, sql.count("%s"), "t", "s") == set(numbers)


@pytest.mark.parametrize("sql", NOT_SURE)
def test_perhaps_not_restricted__not_known(sql: str) -> None:
    assert conditions.of_read(sql, sql.count("%s"), "t", "s") is None


def test_parameters_that_are_not_in_the_text__not_known() -> None:
    assert conditions.of_read('SELECT * FROM "t" WHERE "t"."s" = %s', 2, "t", "s") is None


def test_update__what_is_set_and_which_rows() -> None:
    sql = 'UPDATE "t" SET "a" = %s, "b" = ("t"."b" + %s), "s" = %s WHERE ("t"."id" IN (%s, %s) AND "t"."s" = %s)'
    assert conditions.of_write(sql, 6) == conditions.Write(
        table="t", values={"a": (0,), "b": None, "s": (2,)}, conditions={"id": (3, 4), "s": (5,)}
    )


@pytest.mark.parametrize(
    ("rows", "values"),
    [
        ("VALUES (%s, %s)", {"a": (0,), "s": (1,)}),
        ("VALUES (%s, %s), (%s, %s)", {"a": (0, 2), "s": (1, 3)}),
        ('VALUES (LOWER(%s), %s), (%s, %s) RETURNING "t"."id"', {"a": None, "s": (1, 3)}),
        ('SELECT * FROM UNNEST((%s)::varchar(200)[], (%s)::bigint[]) RETURNING "t"."id"', {"a": (0,), "s": (1,)}),
    ],
)
def test_insert__the_values_of_its_rows(rows: str, values: dict[str, tuple[int, ...] | None]) -> None:
    sql = f'INSERT INTO "t" ("a", "s") {rows}'
    assert conditions.of_write(sql, sql.count("%s")) == conditions.Write(table="t", values=values, conditions=None)


@pytest.mark.parametrize(
    "sql",
    [
        'UPDATE "t" SET "a" = %s',
        'UPDATE "t" SET ("a", "s") = (%s, %s) WHERE "t"."id" = %s',
        'UPDATE "t" SET "a" = %s FROM "u" WHERE "t"."id" = %s',
        'UPDATE "t" x SET "a" = %s WHERE x."id" = %s',
        'DELETE FROM "t" USING "u" WHERE "t"."id" = %s',
        'WITH x AS (DELETE FROM "t" WHERE "t"."id" = %s) SELECT 1',
        'INSERT INTO "t" ("s") VALUES (%s) ON CONFLICT DO NOTHING',
        'INSERT INTO "t" ("s") VALUES (%s) ON DUPLICATE KEY UPDATE "a" = %s',
        'INSERT INTO "t" ("s") VALUES (%s, %s)',
        'INSERT INTO "t" ("s") SELECT %s FROM "t"',
        'INSERT INTO "t" VALUES (%s)',
        'REPLACE INTO "t" ("s") VALUES (%s)',
    ],
)
def test_other_writes__not_known(sql: str) -> None:
    assert conditions.of_write(sql, sql.count("%s")) is None


@pytest.mark.parametrize("end", ["OR true", "IS FALSE", "+ 1", "XOR a", "||-a"])
def test_write_with_another_end__no_condition(end: str) -> None:
    found = conditions.of_write(f'DELETE FROM "t" WHERE "t"."id" = %s {end}', 1)
    assert found is not None
    assert found.conditions == {}


def test_deeply_nested__not_known() -> None:
    sql = 'SELECT * FROM "t" WHERE "t"."s" = %s AND ' + "(" * 5000 + "a" + ")" * 5000
    assert conditions.of_read(sql, 1, "t", "s") is None
