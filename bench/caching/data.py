"""The rows, and the list as it should be, in SQL: past Django, so that no library sees it."""

from __future__ import annotations

ROWS = 20
TABLES = ("caching_author", "caching_tag", "caching_article", "caching_article_tags", "caching_remark")
FILL = f"""
    TRUNCATE {", ".join(TABLES)} RESTART IDENTITY;
    INSERT INTO caching_author (name) SELECT 'author ' || n FROM generate_series(1, 5) n;
    INSERT INTO caching_tag (name) SELECT 'tag ' || n FROM generate_series(1, 6) n;
    INSERT INTO caching_article (title, price, views, author_id)
        SELECT 'title of article ' || n, 1.5, 0, 1 + n % 5 FROM generate_series(1, {ROWS}) n;
    INSERT INTO caching_article_tags (article_id, tag_id)
        SELECT n, 1 + (n + k) % 6 FROM generate_series(1, {ROWS}) n, generate_series(0, 1) k;
    INSERT INTO caching_remark (article_id) SELECT n FROM generate_series(1, {ROWS}) n;
"""
TRUTH = f"""
    SELECT json_agg(row ORDER BY id) FROM (
        SELECT a.id, a.title, a.price::text, json_build_object('id', w.id, 'name', w.name) AS author,
            coalesce((SELECT json_agg(json_build_object('id', t.id, 'name', t.name) ORDER BY t.id)
                FROM caching_tag t JOIN caching_article_tags m ON m.tag_id = t.id WHERE m.article_id = a.id), '[]')
                AS tags
        FROM caching_article a JOIN caching_author w ON w.id = a.author_id ORDER BY a.id LIMIT {ROWS}
    ) row
"""
