import pytest

from scaling_kit.cache import statements
from scaling_kit.cache.tags import of_table
from tests.cache.models import Chapter


def spelled(tags: frozenset[str]) -> str:
    return " ".join(sorted(tag.removeprefix("table.") for tag in tags))


@pytest.mark.parametrize(
    ("sql", "reads", "writes"),
    [
        ('SELECT "library_book"."id" FROM "library_book"', "library_book", ""),
        ("select * from library_book, Library_Author", "library_author library_book", ""),
        ('SELECT 1 FROM "library_book" WHERE "id" IN (SELECT "x" FROM "library_tag")', "library_book library_tag", ""),
        ("WITH x AS (SELECT * FROM library_tag) SELECT * FROM x -- don't", "library_tag", ""),
        ('SELECT "library_tag"."update", "delete" FROM "library_tag"', "library_tag", ""),
        ('SELECT * FROM "library_tag" FOR UPDATE OF "library_tag"', "library_tag", ""),
        ('SELECT * FROM "library_tag" FOR NO KEY UPDATE', "library_tag", ""),
        ("SELECT replace(name, 'a', 'b') FROM library_tag", "library_tag", ""),
        ("SELECT * FROM unknown", "", ""),
        ('INSERT INTO "library_tag" ("name") VALUES (%s) ON CONFLICT DO NOTHING', "", "library_tag"),
        (
            'INSERT INTO "library_tag" ("name") VALUES (%s) ON CONFLICT("id") DO UPDATE SET "name" = 1',
            "",
            "library_tag",
        ),
        ('UPDATE "library_tag" SET "name" = (SELECT "name" FROM "library_author")', "", "library_tag"),
        ('DELETE FROM "library_tag" WHERE "id" IN (SELECT "id" FROM "library_author")', "", "library_tag"),
        ("DELETE FROM library_tag USING library_book", "", "library_book library_tag"),
        ('WITH x AS (DELETE FROM "library_tag" RETURNING *) SELECT * FROM "x"', "", "library_tag"),
        (
            'INSERT INTO "library_tag" ("a") WITH x AS (DELETE FROM "library_book") SELECT 1',
            "",
            "library_book library_tag",
        ),
        ('SELECT 1 FROM "library_tag"; UPDATE"library_book"SET "a" = 1', "", "library_book library_tag"),
        ("EXPLAIN ANALYZE DELETE FROM library_tag", "", "library_tag"),
        ("MERGE INTO library_tag USING library_book ON true", "", "library_book library_tag"),
        ("TRUNCATE TABLE library_tag, library_book", "", "library_book library_tag"),
        ("""UPDATE library_tag SET name = '5"' WHERE name = '"'""", "", "library_tag"),
        ("ALTER TABLE library_tag ADD x int", "", "library_tag"),
        ("LOAD DATA INFILE '/x' INTO TABLE library_tag", "library_tag", "library_tag"),
        ("REPLACE `library_tag` VALUES (1)", "library_tag", "library_tag"),
        ("RENAME TABLE other TO library_tag", "library_tag", "library_tag"),
        ("CREATE OR REPLACE VIEW library_tag AS SELECT 1", "library_tag", "library_tag"),
        ("SELECT * INTO library_tag FROM library_book", "library_book library_tag", "library_book library_tag"),
        ("TRUNCATE cache_tests_chapter CASCADE", "cache_tests_chapter", "cache_tests_chapter"),
        ('SELECT * FROM public."library_tag" /* UPDATE */', "library_tag", "library_tag"),
        ("SAVEPOINT s1", "", ""),
    ],
)
def test_tables_of_a_statement(sql: str, reads: str, writes: str) -> None:
    found = statements.parse(sql)
    assert spelled(found.writes) == writes
    if writes:
        assert set(reads.split()) <= set(spelled(found.reads).split())
    else:
        assert spelled(found.reads) == reads


@pytest.mark.parametrize(
    "sql",
    [
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "begin isolation level serializable",
        "/* shop */ SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SELECT set_config('transaction_isolation', 'serializable', true)",
    ],
)
def test_isolation__noticed(sql: str) -> None:
    assert statements.parse(sql).isolates


def test_rows_deleted_by_the_database__their_tables_too() -> None:
    deletes = statements.parse('DELETE FROM "library_author" WHERE "id" = %s').writes
    assert of_table("cache_tests_biography") in deletes
    assert of_table("cache_tests_chapter") in deletes, "and on, from there"
    updates = statements.parse('UPDATE "library_author" SET "name" = %s').writes
    assert of_table("cache_tests_biography") not in updates


@pytest.mark.parametrize("words", ["'please UPDATE or DELETE'", "1 /* INSERT */", "1 -- DROP"])
def test_select_with_the_words_of_a_write__reads_all_the_same(words: str) -> None:
    assert "library_tag" in spelled(statements.parse(f"SELECT name FROM library_tag WHERE name <> {words}").reads)


def test_sure_write__does_not_read_its_own_table_and_reads_the_others() -> None:
    found = statements.parse('DELETE FROM "library_tag" WHERE "id" IN (SELECT "id" FROM "library_author")')
    assert (spelled(found.reads), spelled(found.writes)) == ("library_author", "library_tag")


@pytest.mark.parametrize(
    ("sql", "reads"),
    [
        ('UPDATE "library_tag" SET "name" = %s RETURNING "library_tag"."name"', "library_tag"),
        ('DELETE FROM "library_tag" WHERE "id" = %s RETURNING *', "library_tag"),
        ('INSERT INTO "library_tag" ("name") VALUES (%s) ON CONFLICT DO UPDATE SET n = 1 RETURNING n', "library_tag"),
        ('INSERT INTO "library_tag" ("name") VALUES (%s) RETURNING "library_tag"."id"', ""),
    ],
)
def test_write_that_returns_what_was_there__reads_its_table(sql: str, reads: str) -> None:
    found = statements.parse(sql)
    assert (spelled(found.reads), spelled(found.writes)) == (reads, "library_tag")


def test_truncated_with_what_refers_to_it__those_tables_too() -> None:
    writes = spelled(statements.parse("TRUNCATE library_author RESTART IDENTITY CASCADE").writes)
    assert {"library_book", "library_book_tags", "cache_tests_chapter"} <= set(writes.split())


def test_name_in_escapes__may_be_any_table() -> None:
    assert statements.parse(r'SELECT * FROM U&"library\005Ftag"').reads == set(map(of_table, statements.tables()))


@pytest.mark.parametrize(
    "table", ["Order", "a.b", "ΟΔΟΣ", "2fast", "x$y", 'x"."y', "Größe", "naïve table", "_t", "library"]
)
@pytest.mark.parametrize(
    "spelling",
    [
        'SELECT 1 FROM "{}"',
        'SELECT 1 FROM x.{},y WHERE "a"=%s',
        "SELECT `{}`.x FROM `{}`",
        'TABLE "{}"',
        "SELECT 1 FROM (SELECT 1 FROM {}.z)",
        "select 1 from/**/{};",
    ],
)
def test_odd_name__found(table: str, spelling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Chapter._meta, "db_table", table)
    forget_tables()
    try:
        assert of_table(table) in statements.parse(spelling.replace("{}", table)).reads
        assert of_table(table) not in statements.parse('SELECT 1 FROM "library_other"').reads
    finally:
        monkeypatch.undo()
        forget_tables()


def forget_tables() -> None:
    for found in (statements._words_of_tables, statements._dependents, statements._referrers, statements._remembered):
        found.cache_clear()
