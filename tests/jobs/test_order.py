"""Strict and weighted order of queues."""

from collections import Counter

import pytest
from django.core.management import CommandError, call_command

from scaling_kit.jobs.order import Order


def test_strict__the_first_queue_is_always_the_first() -> None:
    order = Order(queue_names=("high", "low"))
    assert {tuple(order.pick()) for _ in range(20)} == {("high", "low")}


def test_weighted__each_is_first_as_often_as_its_weight_says_and_none_is_left_out() -> None:
    order = Order(queue_names=("high", "default", "low"), weights=(6, 3, 1))
    picks = [tuple(order.pick()) for _ in range(5000)]
    first = Counter(pick[0] for pick in picks)
    assert [round(first[name] / 500) for name in order.queue_names] == [6, 3, 1]
    assert {len(set(pick)) for pick in picks} == {3}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--queues", "high=3,low"], "all or none"),
        (["--queues", "high=0,low=1"], "the weight of 'high' must be a number above 0, not '0'"),
        (["--queues", "high=much"], "not 'much'"),
        (["--concurrency", "4"], "--concurrency is for --mode threads"),
        (["--max-jobs", "-1"], "not a number above 0"),
        (["--max-memory", "lots"], "'lots' is not a size such as 300M or 2G"),
    ],
)
def test_wrong_arguments__said_in_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        call_command("runworkers", *arguments)
