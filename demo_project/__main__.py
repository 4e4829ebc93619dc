"""`python -m demo_project`: the whole photo wall on this machine, with every server it needs.

REDIS_URL, DATABASE_URL and S3_ENDPOINT_URL (with S3_BUCKET, S3_ACCESS_KEY, S3_SECRET_KEY) each replace a server
that would be started here. PORT is where to listen. Data is kept in the run folder between runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from demo_project import services
from scaling_kit.cluster import listening, processes, run_folder, up
from scaling_kit.cluster.output import Output
from scaling_kit.cluster.runner import Process, RunnerError

ROOT = Path(__file__).resolve().parents[1]
READY = "\n    Photo wall: {url}/\n"


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    output = Output(name="demo")
    try:
        options.run_folder.mkdir(parents=True, exist_ok=True)
        with run_folder.held(options.run_folder):
            run(options, output)
    except (services.ServiceError, run_folder.InUseError, RunnerError, OSError) as error:
        sys.stderr.write(f"demo: {error}\n")
        return 1
    except KeyboardInterrupt:  # before anything was started
        pass
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo_project", description="Run the photo wall.")
    parser.add_argument("--port", type=int, default=int(os.environ.get("PORT") or listening.PORT))
    parser.add_argument("--run-folder", type=lambda text: Path(text).absolute(), default=ROOT / ".run")
    parser.add_argument("--no-seed", dest="seed", action="store_false", help="do not put the first photos up")
    parser.add_argument("--no-nginx", dest="nginx", action="store_false", help="web and websockets on two ports")
    up.add_count_arguments(parser)
    parser.set_defaults(schedulers=2)
    return parser.parse_args(arguments)


def run(options: argparse.Namespace, output: Output) -> None:
    """Arrange everything, then run until told to stop."""
    folder: Path = options.run_folder
    nginx = up.find_nginx(output) if options.nginx else None
    sockets = listening.open_sockets(
        (listening.HOST, options.port), or_after=True, behind_nginx=nginx is not None, output=output
    )
    arranged = services.arrange(os.environ, folder, output)
    environment = arranged.environment | site_environment(sockets, folder, behind_nginx=nginx is not None)
    os.environ.update(environment)
    counts = processes.Counts(
        web=options.web, websocket=options.websocket, workers=options.workers, schedulers=options.schedulers
    )
    migrate = once("migrate", "migrate", "--verbosity=1", after=[process.name for process in arranged.processes])
    site = processes.processes(
        counts, sockets, folder, nginx, s3_endpoint=os.environ["S3_ENDPOINT_URL"], after=[migrate.name]
    )
    seed = [once("seed", "seed_demo", "--url", sockets.url, after=[process.name for process in site])]
    everything = [*arranged.processes, migrate, *site, *(seed if options.seed else [])]
    up.serve(everything, sockets, folder, output, ready=READY, environment=environment)


def site_environment(sockets: listening.Sockets, folder: Path, *, behind_nginx: bool) -> dict[str, str]:
    """Where browsers find the demo. Behind nginx, everything has one origin."""
    found = {
        "DJANGO_SETTINGS_MODULE": "demo_project.settings",
        "DEMO_URL": sockets.url,
        "DEMO_WEBSOCKET_URL": sockets.websocket_url,
        "DEMO_RUN_FOLDER": str(folder),
        "DEMO_KILL": os.environ.get("DEMO_KILL", "1"),
    }
    if behind_nginx:
        found["S3_PUBLIC_ENDPOINT"] = f"{sockets.url}/s3"
    return found


def once(name: str, *command: str, after: list[str]) -> Process:
    return Process(
        name=name,
        command=processes.manage(*command),
        environment=processes.project_environment(),
        after=after,
        once=True,
        ready_within_seconds=300,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
