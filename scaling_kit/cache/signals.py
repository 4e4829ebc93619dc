"""What the cache tells whoever wants to listen. Sent in the process where it happens; receivers run in its request."""

from django.dispatch import Signal

# `family`: the view or function, as in the counters. Sender: None.
cache_hit = Signal()
# `family`, and `seconds`: how long the computation took.
cache_missed = Signal()
# `tags`: a set of names; `table.library_book`, `name.weather`, `*` for everything.
invalidated = Signal()
