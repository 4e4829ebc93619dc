"""A message reaches every client that joined its room, whichever process the client is connected to.

from scaling_kit.realtime import publish

publish("orders:17", "updated", {"status": "paid"})
"""

from scaling_kit.realtime.publishing import apublish, publish

__all__ = ["apublish", "publish"]
