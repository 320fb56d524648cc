"""One turn of HyperQueue: a server and a worker of two cpus on loopback, tasks of /bin/true with captured output.

Usage: hyperqueue_turn.py DIR TASKS. Prints {"version", "tasks_per_s"}. The package carries server, worker and
client as one library; all three run in this process and talk over TCP.
"""

import json
import os
import sys
import time
from importlib.metadata import version

from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig


def run(client, home: str, tasks: int) -> float:
    """Seconds from the submit to the last task. Both outputs of each task go to files of its own.

    The client asks only once a second whether a job has ended, so the end is taken from the files: the last of them is
    made when the last task starts, which is one /bin/true too early.
    """
    os.makedirs(home)
    job = Job(default_workdir=home)
    for _ in range(tasks):
        # One cpu each, the default: with 4 and 8 beside each other on a cpu it was slower.
        job.program(["/bin/true"])
    began = time.time()
    submitted = client.submit(job)
    client.wait_for_jobs([submitted])  # raises if a task has failed
    made = [entry.stat().st_mtime for entry in os.scandir(home)]
    if len(made) != 2 * tasks:
        raise RuntimeError(f"{tasks} tasks left {len(made)} files of output instead of two each")
    client.forget(submitted)
    return max(made) - began


def main() -> None:
    home, tasks = sys.argv[1], int(sys.argv[2])
    with LocalCluster(os.path.join(home, "server"), WorkerConfig(cores=2)) as cluster:
        client = cluster.client()
        run(client, os.path.join(home, "warm-up"), max(tasks // 4, 1))
        took = run(client, os.path.join(home, "measured"), tasks)
    print(json.dumps({"version": version("hyperqueue"), "tasks_per_s": tasks / took}))


if __name__ == "__main__":
    main()
