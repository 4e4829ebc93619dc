"""The channel layer for Channels code that is there already: channels-redis's Pub/Sub layer, made safe.

Differences: a consumer's queue is bounded and drops the oldest message when it is full; publishing fails within
5 s when Redis hangs; `on_disconnect` and `on_reconnect` are called (channels-redis 4.3 takes and forgets them).
For `CHANNEL_LAYERS`, see `scaling_kit.recipes.channel_layers`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Any

from channels_redis.pubsub import RedisPubSubChannelLayer, RedisPubSubLoopLayer, RedisSingleShardConnection
from channels_redis.utils import _wrap_close, decode_hosts
from django.utils.module_loading import import_string
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from scaling_kit import members
from scaling_kit.redis import RedisError

logger = logging.getLogger(__name__)

CONNECTION = {"socket_timeout": 5.0, "socket_connect_timeout": 2.0, "health_check_interval": 15}
RECONNECT_SECONDS = 0.5

Hook = Callable[[], Any] | str | None


class ResilientPubSubLayer(RedisPubSubChannelLayer):  # type: ignore[misc]
    """`RedisPubSubChannelLayer` that survives a Redis restart and a consumer that stops reading.

    Options besides those of channels-redis: `capacity`, how many messages wait for one consumer, and `on_disconnect`
    and `on_reconnect`, callables or dotted paths, sync or async, without arguments. What is sent while Redis is away
    is lost to a channel layer: for messages that must arrive, publish to a room.
    """

    def _get_layer(self) -> _LoopLayer:
        loop = asyncio.get_running_loop()
        if loop not in self._layers:
            self._layers[loop] = _LoopLayer(*self._args, **self._kwargs, channel_layer=self)
            _wrap_close(self, loop)
        layer: _LoopLayer = self._layers[loop]
        return layer


class _LoopLayer(RedisPubSubLoopLayer):  # type: ignore[misc]
    def __init__(
        self,
        hosts: Any = None,
        *,
        capacity: int = 100,
        on_disconnect: Hook = None,
        on_reconnect: Hook = None,
        **options: Any,
    ) -> None:
        super().__init__(hosts, on_disconnect=on_disconnect, on_reconnect=on_reconnect, **options)
        self.capacity = capacity
        self._shards = [_Shard({**CONNECTION, "retry": _no_retry(), **host}, self) for host in decode_hosts(hosts)]

    async def _subscribe_to_channel(self, channel: str) -> None:
        self.channels[channel] = _DroppingQueue(channel, self.capacity)
        await self._get_shard(channel).subscribe(channel)


class _Shard(RedisSingleShardConnection):  # type: ignore[misc]
    async def _do_receiving(self) -> None:
        is_connected = True
        while True:
            try:
                await self._receive_once()
            except (RedisError, OSError) as error:
                if is_connected:
                    is_connected = False
                    logger.warning("channel_layer connected=False redis_error=%r", error)
                    await _call(self.channel_layer.on_disconnect)
                await asyncio.sleep(RECONNECT_SECONDS)
            else:
                if not is_connected:
                    is_connected = True
                    logger.info("channel_layer connected=True")
                    await _call(self.channel_layer.on_reconnect)

    async def _receive_once(self) -> None:
        """Hand on one message, if there is one. redis-py connects and subscribes again by itself."""
        if self._pubsub and self._pubsub.subscribed:
            self._receive_message(await self._pubsub.get_message(ignore_subscribe_messages=True, timeout=0.1))
        else:
            await asyncio.sleep(0.1)


class _DroppingQueue(asyncio.Queue[bytes]):
    """Bounded; full, it loses the oldest message for the newest."""

    def __init__(self, channel: str, capacity: int) -> None:
        super().__init__(capacity)
        self._channel = channel
        self._dropped = 0

    def put_nowait(self, item: bytes) -> None:
        if self.full():
            self.get_nowait()
            self._note_drop()
        super().put_nowait(item)

    def _note_drop(self) -> None:
        self._dropped += 1
        members.count("realtime.layer_dropped")
        if self._dropped & (self._dropped - 1) == 0:  # the 1st, 2nd, 4th, 8th, ...: a flood must not flood the log
            logger.warning("channel_layer overflow channel=%s dropped=%d", self._channel, self._dropped)


def _no_retry() -> Retry:
    return Retry(NoBackoff(), 0)


async def _call(hook: Hook) -> None:
    if hook is None:
        return
    function = import_string(hook) if isinstance(hook, str) else hook
    try:
        outcome = function()
        if inspect.isawaitable(outcome):
            await outcome
    except Exception:
        logger.exception("channel_layer hook failed hook=%s", hook)
