"""What bench/cache_cases.py and bench/cache.py run: caches side by side, one app, the same data, the same read.

`field` lists the contestants. Each runs in processes of its own, since most of them patch Django. `libraries` has each
library's way of caching the list of `answers`; `cases` says what a cache may get wrong, `referee` runs that.

This package is also a Django app, which has the models.
"""
