"""gunicorn's configuration for the websocket processes of one host: as for the web, with another class of worker.

python -m scaling_kit.cluster.serve -c python:scaling_kit.cluster.gunicorn_websocket project.asgi
"""

from scaling_kit.cluster.cores import usable_cores
from scaling_kit.cluster.gunicorn import *  # noqa: F403
from scaling_kit.cluster.gunicorn import django

worker_class = "scaling_kit.cluster.worker.WebsocketWorker"
workers = django["WEBSOCKET_WORKERS"] or usable_cores()
max_requests = 0  # a websocket is one request, for hours
