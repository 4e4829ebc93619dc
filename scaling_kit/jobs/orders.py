"""What RQ's commands ask of a worker: `rq.command.send_stop_job_command` and the like publish it on its channel."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Any

from redis.client import PubSub
from rq.command import PUBSUB_CHANNEL_TEMPLATE, parse_payload

from scaling_kit.jobs import queues
from scaling_kit.redis import Purpose

logger = logging.getLogger(__name__)

LISTEN_SECONDS = 10.0


def obey(queue_name: str, worker: str, handle: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
    """Call `handle(order)` from a thread of its own with each order that arrives; returns what ends that.

    Orders are not kept: what is sent while Redis is away, or nobody listens, is lost.
    """
    redis = queues.connection(queue_name, Purpose.BLOCKING)
    pubsub: PubSub = redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
    channel = PUBSUB_CHANNEL_TEMPLATE % worker
    with contextlib.suppress(*queues.AWAY):
        # Here and not in the thread: a fork while that imports something would leave the child with a held lock.
        pubsub.subscribe(channel)
    ended = threading.Event()
    listening = (pubsub, channel, handle, ended)
    threading.Thread(target=_listen, args=listening, name="scaling_kit-orders", daemon=True).start()

    def end() -> None:
        ended.set()
        with contextlib.suppress(*queues.AWAY):
            pubsub.unsubscribe()  # type: ignore[no-untyped-call]  # the answer wakes the thread

    return end


def _listen(pubsub: PubSub, channel: str, handle: Callable[[dict[str, Any]], None], ended: threading.Event) -> None:
    while not ended.is_set():
        try:
            if not pubsub.subscribed:
                pubsub.subscribe(channel)
            message = pubsub.get_message(timeout=LISTEN_SECONDS)
            if message:
                _handle(message, handle)
        except queues.AWAY as error:
            logger.debug("orders redis_reachable=False channel=%s error=%r", channel, error)
            pubsub.reset()
            ended.wait(queues.RETRY_SECONDS)
    pubsub.reset()


def _handle(message: Any, handle: Callable[[dict[str, Any]], None]) -> None:
    try:
        handle(parse_payload(message))
    except Exception:
        logger.exception("order not understood message=%r", message)
