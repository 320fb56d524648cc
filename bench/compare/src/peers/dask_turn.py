"""One turn of dask.distributed: a scheduler and two single-threaded worker processes on loopback, tasks that do nothing.

Usage: dask_turn.py DIR TASKS. Prints {"version", "tasks_per_s"}.
"""

import json
import sys
import time

import dask
import distributed
from distributed import Client, LocalCluster


def identity(value):
    return value


def run(client: Client, tasks: int) -> float:
    """Seconds from the submit to the last result in the client."""
    began = time.perf_counter()
    # Not pure: equal calls stay tasks of their own, and no argument is hashed.
    futures = client.map(identity, range(tasks), pure=False)
    results = client.gather(futures)
    took = time.perf_counter() - began
    if results != list(range(tasks)):
        raise RuntimeError("a result is missing or is another task's")
    return took


def main() -> None:
    home, tasks = sys.argv[1], int(sys.argv[2])
    dask.config.set({"temporary-directory": home})
    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
    )
    with cluster, Client(cluster) as client:
        run(client, max(tasks // 4, 1))
        took = run(client, tasks)
        print(json.dumps({"version": distributed.__version__, "tasks_per_s": tasks / took}), flush=True)


if __name__ == "__main__":
    main()
