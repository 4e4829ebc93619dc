"""Each library's way of caching the rows and the view of `answers`: a module each, with the same names in it.

`ListView` and `ReplicaView` are cached views; `rows()` is the same without HTTP, where a library can do that, and
`ask(name, query)` any other query. `hoard(count)` stores so many entries that depend on the articles.
"""
