-- Delete jobs that do not run, with all that is kept of them; together with others only such as have ended.
-- Outcomes: removed (with its rate limit), state.
return each(function(job)
  if is_running(job) or (asked_queue ~= '' and not FINAL[job.status]) then
    return 'state', job.status
  end
  if not FINAL[job.status] then
    unlist(job)
  end
  forget(job)
  return 'removed', job.rate_limit
end)
