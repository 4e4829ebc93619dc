"""Who may look at jobs and who may act on them: staff with a permission on the model `Job`, and superusers."""

from __future__ import annotations

from scaling_kit.permissions import Permissions

JOBS = Permissions(view="scaling_kit_jobs.view_job", change="scaling_kit_jobs.change_job")
may_view = JOBS.may_view
may_change = JOBS.may_change
