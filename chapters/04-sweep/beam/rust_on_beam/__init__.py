"""Rust programs as workers of an Apache Beam pipeline.

- `worker_process`: a Rust worker from outside: started, asked line by line, watched, ended
- `selection`: the rows of a sweep in one result, the best first
- `transforms`: the two as a DoFn and a CombineFn, and the one sink
- `engines`: what the engines must be told: where these modules lie, what a step needs

Only the last two know Beam.
"""
