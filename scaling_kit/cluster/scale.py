"""`manage.py cluster scale web=4 workers=+1`."""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import Any

from django.core.management.base import CommandParser, OutputWrapper

from scaling_kit.cluster.asking import add_json_argument, ask, report

HELP = "have more or fewer processes of a kind"


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("amounts", nargs="+", type=amount, metavar="NAME=N", help="web=4, workers=+1, scheduler=-1")
    add_json_argument(parser)


def amount(text: str) -> tuple[str, str]:
    name, equals, number = text.partition("=")
    if not (name and equals and number):
        raise ArgumentTypeError(f"{text!r} is not NAME=N, such as web=4 or workers=+1")
    return name, number


def run(*, amounts: list[tuple[str, str]], json: bool, stdout: OutputWrapper, **_: Any) -> int:
    return report(ask("scale", names=dict(amounts)), stdout, as_json=json)
