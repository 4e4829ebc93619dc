"""Looking at queues and jobs: `fetch_counts`, `fetch_jobs`, `fetch_job`, `fetch_log_lines`.

Nothing here changes anything. RQ's own registries do: asking one for its `count` requeues what looks abandoned, and
two who look at once requeue it twice. A look costs a handful of round trips, however many jobs there are.
"""

from scaling_kit.jobs.counts import QueueCounts, fetch_counts
from scaling_kit.jobs.details import Attempt, JobDetail, fetch_job, fetch_log_lines
from scaling_kit.jobs.listing import FINAL_STATES, STATES, JobSummary, Page, fetch_jobs

__all__ = [
    "FINAL_STATES",
    "STATES",
    "Attempt",
    "JobDetail",
    "JobSummary",
    "Page",
    "QueueCounts",
    "fetch_counts",
    "fetch_job",
    "fetch_jobs",
    "fetch_log_lines",
]
