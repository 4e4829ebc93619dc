"""Nobody is served what is older than the last commit; and the check that says so can say otherwise."""

import pytest
from django.db import connection

from tests.acceptance import cache_soak

SECONDS = 6


def soak(variant: str, prefix: str) -> dict[str, int]:
    url = "postgres://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**connection.settings_dict)
    return cache_soak.soak(database_url=url, prefix=prefix, variant=variant, seconds=SECONDS)


@pytest.mark.parametrize("variant", ["default", "strict", "nearby"])
def test_four_processes_read_and_write__nothing_stale(
    transactional_db: None, keys_of_one_test: str, variant: str
) -> None:
    found = soak(variant, keys_of_one_test)
    assert (found["stale"], found["uncommitted"]) == (0, 0), found
    assert found["hits"] > 50, found
    kinds = [kind for kind in cache_soak.CHANGES if found.get(f"write {kind}")]
    assert len(kinds) > len(cache_soak.CHANGES) / 2, found  # a slow machine does not get round to all


@pytest.mark.parametrize("variant", ["late-sequence", "delete-on-write", "deaf"])
def test_the_same_with_a_broken_cache__stale_answers_are_counted(
    transactional_db: None, keys_of_one_test: str, variant: str
) -> None:
    # A slow machine may have to try again.
    assert any(soak(variant, f"{keys_of_one_test}-{attempt}")["stale"] for attempt in range(3))
