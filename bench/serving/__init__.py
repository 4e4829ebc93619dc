"""The parts of bench/web.py and bench/web_faults.py: the same three views under several servers, and what befalls them.

`site` is the Django project, `node_site.cjs` the same in Node.js, `field` the servers, `pressure` what is measured of
them, `report` the tables. `tools` fetches what is no Python package of this project. `hosts` are the process managers
of bench/web_faults.py, `faults` what is done to them under load, `verdicts` their tables.
"""
