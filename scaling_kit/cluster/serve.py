"""gunicorn with the kit's arbiter: the same command line, and reloads that lose no request.

python -m scaling_kit.cluster.serve -c python:scaling_kit.cluster.gunicorn project.wsgi
"""

from __future__ import annotations

import sys
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.app.wsgiapp import WSGIApplication

from scaling_kit.cluster.arbiter import Arbiter

CONFIGURATIONS = ("scaling_kit.cluster.gunicorn", "scaling_kit.cluster.gunicorn_websocket")


class _RunByArbiter(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """Stands where `Application.run()` looks for the end of its work: `super().run()`."""

    def run(self) -> None:
        try:
            Arbiter(self).run()
        except RuntimeError as error:
            sys.exit(f"Error: {error}")


class Application(WSGIApplication, _RunByArbiter):  # type: ignore[misc]
    def reload(self) -> None:
        for name in CONFIGURATIONS:
            sys.modules.pop(name, None)
        super().reload()

    def get_config_from_module_name(self, module_name: str) -> dict[str, Any]:
        sys.modules.pop(module_name, None)  # or a reload would find it imported, and read nothing
        found: dict[str, Any] = super().get_config_from_module_name(module_name)
        return found


if __name__ == "__main__":
    Application("%(prog)s [OPTIONS] [APP_MODULE]", prog="python -m scaling_kit.cluster.serve").run()
