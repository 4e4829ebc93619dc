"""Writers outside Django: triggers of PostgreSQL that put what they change into the outbox."""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import Model

from scaling_kit.cache.outbox import TABLE
from scaling_kit.cache.tags import of_table

FUNCTION = "scaling_kit_cache_changed"

_FUNCTION_SQL = """\
CREATE OR REPLACE FUNCTION {schema}.{function}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
BEGIN
  INSERT INTO {outbox} (tags) VALUES (array_to_string(TG_ARGV, E'\\n'));
  RETURN NULL;
END $$;
"""
_TRIGGER_SQL = """\
DROP TRIGGER IF EXISTS {function} ON {table};
CREATE TRIGGER {function} AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}
FOR EACH STATEMENT {condition}EXECUTE FUNCTION {schema}.{function}({tags});
"""
_DROP_SQL = "DROP TRIGGER IF EXISTS {function} ON {table};\n"


def sql(*models: type[Model], except_application: str = "", schema: str = "public") -> str:
    """The statements that create the triggers for these models' tables, of their parents and many-to-many fields too.

    For `psql`, or `migrations.RunSQL`. Repeating them is harmless. Each statement that writes such a table then adds a
    row of about 100 bytes to the outbox, which is swept within SCALING_KIT_CACHE_OUTBOX_SECONDS as long as anyone
    reads. Connections whose `application_name` is `except_application` do not: give that name to Django's own
    (`DATABASES["…"]["OPTIONS"]`), whose writes are seen anyway, unless they come from stored procedures.
    `schema` is that of the outbox table.
    """
    function = _FUNCTION_SQL.format(schema=_quoted(schema), function=FUNCTION, outbox=_quoted(TABLE))
    condition = f"WHEN (current_setting('application_name') <> {_text(except_application)}) "
    return function + "".join(
        _TRIGGER_SQL.format(
            function=FUNCTION,
            table=_quoted(table),
            schema=_quoted(schema),
            condition=condition if except_application else "",
            # The second one is for entries of one scope: which rows were written is unknown.
            tags=", ".join(_text(tag) for tag in (of_table(table), f"{of_table(table)}~")),
        )
        for table in tables(*models)
    )


def drop_sql(*models: type[Model]) -> str:
    """The statements that remove these triggers again."""
    return "".join(_DROP_SQL.format(function=FUNCTION, table=_quoted(table)) for table in tables(*models))


def tables(*models: type[Model]) -> list[str]:
    """The tables of these models, of those they inherit from, and of their many-to-many fields."""
    return sorted({table for model in models for table in _tables_of(model)})


def _tables_of(model: type[Model]) -> Iterator[str]:
    for each in [model, *model._meta.get_parent_list()]:
        yield each._meta.db_table
        for field in each._meta.local_many_to_many:
            yield field.m2m_db_table()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
